#include "phi3/tokenizer_files.h"

#include <algorithm>
#include <filesystem>

#include "phi3/containment.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/json.h"

namespace phi3tune::phi3 {
namespace {

using io::Json;

void note(TokenizerFacts& facts, const Json& id, const std::string& place) {
  if (!id.is_number_integer() || id < 0) {
    throw ModelError("{}: a token id is {}, wanted a whole number from 0", place, id.dump());
  }
  facts.vocabulary = std::max(facts.vocabulary, id.get<int64_t>() + 1);
}

void read_tokenizer_json(const std::string& path, TokenizerFacts& facts) {
  const auto json = io::read_json_file<ModelError>(path);
  const auto* model = json.is_object() && json.contains("model") ? &json["model"] : nullptr;
  const auto* vocab = model != nullptr && model->is_object() && model->contains("vocab") ? &(*model)["vocab"] : nullptr;
  if (vocab == nullptr || !(vocab->is_object() || vocab->is_array())) {
    throw ModelError("{}: model.vocab is missing, wanted the vocabulary", path);
  }
  if (vocab->is_array()) {  // a unigram model: pairs of piece and score, in the order of the ids
    facts.vocabulary = std::max<int64_t>(facts.vocabulary, static_cast<int64_t>(vocab->size()));
  } else {
    for (const auto& [piece, id] : vocab->items()) {
      note(facts, id, path);
    }
  }
  if (const auto added = json.find("added_tokens"); added != json.end() && added->is_array()) {
    for (const auto& token : *added) {
      if (!token.is_object() || !token.contains("id") || !token.contains("content") || !token["content"].is_string()) {
        throw ModelError("{}: added_tokens holds {}, wanted objects with id and content", path, token.dump());
      }
      note(facts, token["id"], path);
      facts.added_ids[token["content"].get<std::string>()] = token["id"].get<int64_t>();
    }
  }
}

void read_tokenizer_config(const std::string& path, TokenizerFacts& facts) {
  const auto json = io::read_json_file<ModelError>(path);
  const auto added = json.is_object() ? json.find("added_tokens_decoder") : json.end();
  if (!json.is_object() || added == json.end() || !added->is_object()) {
    return;
  }
  for (const auto& [key, token] : added->items()) {
    const auto id = parse_int(key);
    if (!id || !token.is_object() || !token.contains("content") || !token["content"].is_string()) {
      throw ModelError("{}: added_tokens_decoder: entry \"{}\" does not name a token", path, key);
    }
    note(facts, Json(*id), path);
    facts.added_ids[token["content"].get<std::string>()] = *id;
  }
}

}  // namespace

TokenizerFacts read_tokenizer_facts(const std::string& folder) {
  TokenizerFacts facts;
  std::error_code code;
  for (const char* name : kTokenizerFiles) {
    const std::string path = folder + "/" + name;
    if (!std::filesystem::exists(path, code)) {
      continue;
    }
    require_inside(folder, path);
    facts.files.emplace_back(name);
  }
  const auto has = [&](const char* name) {
    return std::find(facts.files.begin(), facts.files.end(), name) != facts.files.end();
  };
  if (!has("tokenizer.json") && !has("tokenizer.model")) {
    throw ModelError("{}: no tokenizer, wanted tokenizer.json or tokenizer.model", folder);
  }
  if (has("tokenizer.json")) {
    read_tokenizer_json(folder + "/tokenizer.json", facts);
  }
  if (has("tokenizer_config.json")) {
    read_tokenizer_config(folder + "/tokenizer_config.json", facts);
  }
  if (facts.vocabulary == 0) {
    throw ModelError(
        "{}: no file names the token ids, wanted tokenizer.json, or tokenizer_config.json with "
        "added_tokens_decoder",
        folder);
  }
  return facts;
}

}  // namespace phi3tune::phi3
