// The files of a tokenizer, read into a definition. All throw ModelError naming file and field.
#pragma once

#include <optional>
#include <string>

#include "data/tokenizer/definition.h"

namespace phi3tune::data {

// Hugging Face's tokenizer.json: a BPE model that is SentencePiece-like (Phi-3) or byte-level (Phi-4). A feature
// outside these is refused by name.
TokenizerDefinition read_tokenizer_json(const std::string& path);

// SentencePiece's tokenizer.model (BPE with byte fallback), as Hugging Face converts it: the merges are every way to
// cut a piece into two pieces, best score first.
TokenizerDefinition read_sentencepiece_model(const std::string& path);

// Pieces and ids of a tokenizer.model alone. Throws ModelError when `definition` has other ones.
void require_same_pieces(const TokenizerDefinition& definition, const std::string& model_path);

struct TokenizerConfig {
  std::optional<int32_t> bos_id, eos_id, pad_id;
  bool add_bos_token = false;
  std::optional<std::string> chat_template;
};

// tokenizer_config.json and its companions in the folder (all may be absent): named tokens, and the flags of added
// tokens, which go into `definition`.
TokenizerConfig read_tokenizer_config(const std::string& folder, TokenizerDefinition& definition, bool from_model_file);

// Adds `token`, or gives it new flags if it is there. The id is the one Hugging Face's loader gives; a file that says
// another one is refused. `id` < 0: the token must be a piece already.
void put_added_token(TokenizerDefinition& definition, AddedToken token, const std::string& place);

// "folder/name".
std::string in_folder(const std::string& folder, std::string_view name);
bool file_exists(const std::string& path);

}  // namespace phi3tune::data
