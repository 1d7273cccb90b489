// The text of an answer while it grows: never half a character.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "phi3tune/data/tokenizer.h"

namespace phi3tune::generate {

class TextStream {
 public:
  // The tokenizer must outlive it.
  explicit TextStream(const data::Tokenizer& tokenizer);

  // The text that is certain now and was not before: well-formed UTF-8, without special tokens. Bytes that could be the
  // beginning of a character wait for the next token. All pieces and the end's are decode() of all tokens.
  std::string add(int32_t token);
  // What still waits, as decode() gives it.
  std::string finish();

 private:
  bool is_left_out(int32_t token) const;
  std::string grow(const std::string& text);

  const data::Tokenizer& tokenizer_;
  bool byte_pieces_;
  std::vector<int32_t> tokens_;
  std::string shown_;
};

}  // namespace phi3tune::generate
