// Reference files and tokenizers for the tests of the data layer.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "phi3tune/data/template.h"
#include "phi3tune/data/tokenizer.h"
#include "phi3tune/io/json.h"
#include "support/temp_folder.h"

namespace phi3tune::test {

inline std::string references(const std::string& name) {
  return std::string(PHI3TUNE_SOURCE_DIR) + "/tests/references/" + name;
}

inline std::vector<io::Json> read_jsonl(const std::string& path) {
  std::ifstream file(path);
  std::vector<io::Json> rows;
  for (std::string line; std::getline(file, line);) {
    io::JsonFault fault;
    io::Json value;
    if (!io::parse_json(line, value, fault)) {
      ADD_FAILURE() << path << ":" << rows.size() + 1 << ": " << fault.what;
      return {};
    }
    rows.push_back(std::move(value));
  }
  return rows;
}

// A tokenizer of tests/references/tokenizers. "spm_first" is spm_like without rstrip, as Phi-3-mini's first release.
inline data::Tokenizer open_tokenizer(const std::string& name) {
  if (name != "spm_first") {
    return data::Tokenizer::open(references("tokenizers/" + name));
  }
  const TempFolder folder;
  for (const std::string file : {"tokenizer.json", "tokenizer_config.json"}) {
    std::string text = read_all(references("tokenizers/spm_like/" + file));
    text = std::regex_replace(text, std::regex("\"rstrip\":\\s*true"), "\"rstrip\": false");
    folder.write(file, text);
  }
  return data::Tokenizer::open(folder.path());
}

inline data::TemplateKind kind_named(const std::string& name) {
  for (const auto kind : {data::TemplateKind::kPhi3, data::TemplateKind::kPhi3First, data::TemplateKind::kPhi3Medium,
                          data::TemplateKind::kPhi35, data::TemplateKind::kPhi4, data::TemplateKind::kPhi4Mini,
                          data::TemplateKind::kChatMl}) {
    if (data::template_name(kind) == name) {
      return kind;
    }
  }
  ADD_FAILURE() << "no template " << name;
  return data::TemplateKind::kNone;
}

inline data::ChatTemplate template_for(const std::string& name, const data::Tokenizer& tokenizer) {
  std::vector<std::string> notes;
  return data::ChatTemplate::choose(name, tokenizer, notes);
}

inline std::vector<data::Message> messages_of(const io::Json& list) {
  std::vector<data::Message> messages;
  for (const io::Json& value : list) {
    data::Message message;
    message.role = value.at("role");
    message.content = value.at("content");
    if (value.contains("tools") && !value.at("tools").is_null()) {
      message.tools = value.at("tools").get<std::string>();
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

}  // namespace phi3tune::test
