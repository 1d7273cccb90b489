// The tokenizer files of a model folder as files: their names, and the little that a config.json takes from them.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace phi3tune::phi3 {

// Names that a folder's tokenizer may have files under.
inline constexpr std::array kTokenizerFiles{
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json",     "merges.txt",      "chat_template.jinja"};

struct TokenizerFacts {
  std::vector<std::string> files;            // names present in the folder
  int64_t vocabulary = 0;                    // largest id + 1
  std::map<std::string, int64_t> added_ids;  // added tokens by content
};

// Throws ModelError when the folder has no tokenizer, or one that names no ids.
TokenizerFacts read_tokenizer_facts(const std::string& folder);

}  // namespace phi3tune::phi3
