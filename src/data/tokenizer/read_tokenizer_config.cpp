#include <algorithm>
#include <array>
#include <filesystem>

#include "data/tokenizer/json_field.h"
#include "data/tokenizer/readers.h"
#include "phi3/containment.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/data/folder_template.h"

namespace phi3tune::data {
namespace {

constexpr size_t kLargestFile = size_t{4} << 20;

// Id that Hugging Face's add_tokens gives to a new token.
int32_t next_added_id(const TokenizerDefinition& definition) {
  const auto pieces = static_cast<int32_t>(definition.vocabulary.size());
  int32_t next = pieces;
  for (const AddedToken& token : definition.added) {
    next = std::max(next, token.id + 1);
  }
  return next;
}

// "<s>" or {"content": "<s>", ...}; nothing if absent.
std::optional<std::string> token_text(const JsonField& field) {
  if (!field) {
    return std::nullopt;
  }
  return field.value->is_object() ? field.member("content").text() : field.text();
}

AddedToken read_flags(const JsonField& entry) {
  (void)entry.object();
  AddedToken token;
  token.content = entry.member("content").text();
  token.lstrip = entry.member("lstrip").boolean(false);
  token.rstrip = entry.member("rstrip").boolean(false);
  token.single_word = entry.member("single_word").boolean(false);
  token.special = entry.member("special").boolean(false);
  token.normalized = entry.member("normalized").boolean(!token.special);
  return token;
}

void read_added_tokens_decoder(const JsonField& decoder, TokenizerDefinition& definition, bool over_model_file) {
  struct Entry {
    int64_t id;
    JsonField field;
  };
  std::vector<Entry> entries;
  for (const auto& [key, value] : decoder.object().items()) {
    JsonField field{&value, fmt::format("{}.{}", decoder.place, key)};
    const std::optional<int64_t> id = parse_int(key);
    if (!id || *id < 0 || *id >= Vocabulary::kIdLimit) {
      throw ModelError("{}: the key is not a token id from 0 to {}", field.place, Vocabulary::kIdLimit - 1);
    }
    entries.push_back({*id, std::move(field)});
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.id < b.id; });
  for (const Entry& entry : entries) {
    if (over_model_file) {
      // A control piece of tokenizer.model counts as special only where nothing else is said.
      for (AddedToken& known : definition.added) {
        known.special = known.special && known.id != entry.id;
      }
    }
    AddedToken token = read_flags(entry.field);
    token.id = static_cast<int32_t>(entry.id);
    put_added_token(definition, std::move(token), entry.field.place);
  }
}

// The id of a token that the configuration names; such a token is found in text, as a special one.
std::optional<int32_t> named_token(const JsonField& field, TokenizerDefinition& definition) {
  const std::optional<std::string> text = token_text(field);
  if (!text) {
    return std::nullopt;
  }
  const auto same = [&](const AddedToken& token) { return token.content == *text; };
  const auto known = std::find_if(definition.added.begin(), definition.added.end(), same);
  if (known != definition.added.end()) {
    return known->id;
  }
  AddedToken token;
  token.id = -1;
  token.content = *text;
  token.special = true;
  if (field.value->is_object()) {
    token.lstrip = field.member("lstrip").boolean(false);
    token.rstrip = field.member("rstrip").boolean(false);
    token.single_word = field.member("single_word").boolean(false);
  }
  put_added_token(definition, std::move(token), field.place);
  return definition.added.back().id;
}

bool adds_bos(const JsonField& config, const TokenizerDefinition& definition, std::optional<int32_t> bos,
              bool from_model_file) {
  if (const JsonField setting = config.member("add_bos_token")) {
    return setting.boolean(false);
  }
  if (from_model_file) {
    // Hugging Face builds LlamaTokenizer from the model file, and that adds BOS unless told not to.
    const JsonField type = config.member("tokenizer_class");
    return bos && type && type.text().starts_with("LlamaTokenizer");
  }
  return bos && definition.post_processor_first &&
         std::any_of(definition.added.begin(), definition.added.end(), [&](const AddedToken& token) {
           return token.id == *bos && token.content == *definition.post_processor_first;
         });
}

// A string, or the "default" of a list of named templates.
std::optional<std::string> template_text(const JsonField& field) {
  if (!field) {
    return std::nullopt;
  }
  if (!field.value->is_array()) {
    return field.text();
  }
  for (size_t i = 0; i < field.value->size(); ++i) {
    const JsonField entry = field.item(i);
    if (entry.member("name").text() == "default") {
      return entry.member("template").text();
    }
  }
  return std::nullopt;
}

std::optional<std::string> find_template(const std::string& folder, const JsonField& config) {
  const std::string path = in_folder(folder, "chat_template.jinja");
  return file_exists(path) ? io::read_text_file<ModelError>(path, kLargestFile)
                           : template_text(config.member("chat_template"));
}

}  // namespace

std::optional<std::string> read_folder_template(const std::string& folder) {
  for (const char* name : {"tokenizer_config.json", "chat_template.jinja"}) {
    phi3::require_inside(folder, in_folder(folder, name));
  }
  const std::string path = in_folder(folder, "tokenizer_config.json");
  const io::Json json =
      file_exists(path) ? io::read_json_file<ModelError>(path, kLargestFile) : io::Json(io::Json::object());
  const JsonField root{&json, path + ": "};
  (void)root.object();
  return find_template(folder, root);
}

std::string in_folder(const std::string& folder, std::string_view name) {
  return (std::filesystem::path(folder) / name).string();
}

bool file_exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

void put_added_token(TokenizerDefinition& definition, AddedToken token, const std::string& place) {
  constexpr size_t kLongest = 1024;
  if (token.content.empty() || token.content.size() > kLongest) {
    throw ModelError("{}: a token of {} bytes, wanted 1 to {}", place, token.content.size(), kLongest);
  }
  constexpr size_t kMost = 8192;  // the Phi family has up to 90
  auto& added = definition.added;
  if (added.size() == kMost) {
    throw ModelError("{}: more than {} added tokens are not supported", place, kMost);
  }
  const auto same =
      std::find_if(added.begin(), added.end(), [&](const AddedToken& other) { return other.content == token.content; });
  int32_t expected = definition.vocabulary.find(token.content);
  if (same != added.end()) {
    expected = same->id;
  } else if (expected < 0 && token.id < 0) {
    throw ModelError("{}: {} is neither an added token nor a piece of the vocabulary", place,
                     json_quoted(token.content));
  } else if (expected < 0) {
    expected = next_added_id(definition);
  }
  if (token.id < 0) {
    token.id = expected;
  }
  if (token.id != expected) {
    throw ModelError("{}: {} is said to be id {}, but the other entries make it {}", place, json_quoted(token.content),
                     token.id, expected);
  }
  const std::string_view piece = definition.vocabulary.piece(token.id);
  if (definition.vocabulary.has(token.id) && piece != token.content) {
    throw ModelError("{}: id {} of {} belongs to the piece {}", place, token.id, json_quoted(token.content),
                     json_quoted(piece));
  }
  if (token.normalized && (definition.prepend_mark || definition.spaces_to_marks)) {
    throw ModelError("{}: {} has normalized true, which is not supported together with a normalizer; wanted false",
                     place, json_quoted(token.content));
  }
  if (same != added.end()) {
    token.special = token.special || same->special;  // once special, always skipped when decoding
    *same = std::move(token);
  } else {
    added.push_back(std::move(token));
  }
}

TokenizerConfig read_tokenizer_config(const std::string& folder, TokenizerDefinition& definition,
                                      bool from_model_file) {
  TokenizerConfig config;
  const std::string config_path = in_folder(folder, "tokenizer_config.json");
  const std::string map_path = in_folder(folder, "special_tokens_map.json");
  io::Json file = io::Json::object();
  io::Json map = io::Json::object();
  if (file_exists(config_path)) {
    file = io::read_json_file<ModelError>(config_path, kLargestFile);
  }
  if (file_exists(map_path)) {
    map = io::read_json_file<ModelError>(map_path, kLargestFile);
  }
  const JsonField root{&file, config_path + ": "};
  const JsonField map_root{&map, map_path + ": "};
  (void)root.object();
  (void)map_root.object();

  if (const JsonField decoder = root.member("added_tokens_decoder")) {
    read_added_tokens_decoder(decoder, definition, from_model_file);
  } else if (from_model_file && file_exists(in_folder(folder, "added_tokens.json"))) {
    throw ModelError(
        "{}: no added_tokens_decoder, so the flags of the tokens in added_tokens.json are unknown; add tokenizer.json, "
        "or save the tokenizer again with transformers 4.34 or newer",
        config_path);
  }
  const auto named = [&](std::string_view key) {
    const JsonField field = root.member(key);
    return named_token(field ? field : map_root.member(key), definition);
  };
  config.bos_id = named("bos_token");
  config.eos_id = named("eos_token");
  config.pad_id = named("pad_token");
  (void)named("unk_token");
  config.add_bos_token = adds_bos(root, definition, config.bos_id, from_model_file);

  config.chat_template = find_template(folder, root);
  return config;
}

}  // namespace phi3tune::data
