// Text to token ids and back, with the semantics of Hugging Face's fast tokenizers.
//
// Two kinds of vocabulary: SentencePiece-BPE (Phi-3) and byte-level BPE (Phi-4, Phi-4-mini, the demo base). Added
// tokens are found in the raw text first (leftmost, longest), with their lstrip/rstrip flags; the text between them is
// encoded segment by segment.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace phi3tune::data {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool lstrip = false;
  bool rstrip = false;
  bool single_word = false;
  bool normalized = false;
  bool special = false;
};

// A token with the bytes of the text it came from. Added tokens cover the whitespace that lstrip/rstrip swallowed.
struct TokenSpan {
  int32_t id = 0;
  size_t begin = 0;  // byte offsets into the text
  size_t end = 0;
};

class Tokenizer {
 public:
  // Reads tokenizer.json and/or tokenizer.model and tokenizer_config.json. With both vocabularies they must agree (ids
  // of all pieces). Added-token flags: tokenizer_config.json's added_tokens_decoder, else tokenizer.json. Throws
  // ModelError.
  static Tokenizer open(const std::string& folder);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // No BOS or EOS is added. `text` is well-formed UTF-8. Thread-safe.
  std::vector<int32_t> encode(std::string_view text) const;
  // The same ids, with the bytes each came from (for masks). Spans are in order, do not overlap and cover the text
  // (unless it gives no token at all). The pieces of a byte-fallback run take one byte of the character each. A mark
  // that stands alone before a segment's first character ("\nhi" is "▁", <0x0A>, "hi") has an empty span at the place
  // of that character.
  std::vector<TokenSpan> encode_with_spans(std::string_view text) const;
  // As HF's decode with skip_special_tokens given and clean_up_tokenization_spaces false.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = false) const;
  // The text of one token for display ("▁Hello" is shown as " Hello"; bytes as <0x0A>).
  std::string token_text(int32_t id) const;

  std::optional<int32_t> token_id(std::string_view piece) const;  // added token or vocabulary piece
  std::span<const AddedToken> added_tokens() const noexcept;
  int32_t max_id() const noexcept;  // largest id this tokenizer can produce
  std::optional<int32_t> bos_id() const noexcept;
  std::optional<int32_t> eos_id() const noexcept;
  std::optional<int32_t> pad_id() const noexcept;
  bool add_bos_token() const noexcept;
  // The folder's own chat template text, if it has one (tokenizer_config.json or chat_template.jinja). Never executed.
  const std::optional<std::string>& chat_template() const noexcept;
  // Files that a result folder needs to carry the tokenizer: absolute paths, those that exist.
  std::vector<std::string> files() const;
  // Content hash of those files.
  std::string fingerprint() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace phi3tune::data
