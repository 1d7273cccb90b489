#include "phi3tune/generate/text_stream.h"

#include <algorithm>
#include <string_view>

#include "phi3tune/core/error.h"

namespace phi3tune::generate {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// A SentencePiece vocabulary with pieces for single bytes.
bool has_byte_pieces(const data::Tokenizer& tokenizer) {
  const auto newline = tokenizer.token_id("<0x0A>");
  return newline && tokenizer.decode(std::span(&*newline, 1)) == "\n";
}

bool is_byte_piece(const std::string& text) {
  return text.size() == 6 && text.starts_with("<0x") && text.back() == '>';
}

}  // namespace

TextStream::TextStream(const data::Tokenizer& tokenizer)
    : tokenizer_(tokenizer), byte_pieces_(has_byte_pieces(tokenizer)) {}

std::string TextStream::add(int32_t token) {
  tokens_.push_back(token);
  if (byte_pieces_) {
    // A run of byte pieces is decoded as a whole: each of its bytes is a replacement character where one is wrong.
    const std::string own = tokenizer_.token_text(token);
    if (is_byte_piece(own) || own.empty() || is_left_out(token)) {
      return {};
    }
  }
  std::string text = tokenizer_.decode(tokens_, true);
  // Of byte-level pieces, what cannot end a character is a replacement character, and so is the beginning of one.
  if (!byte_pieces_ && text.ends_with(kReplacement)) {
    text.resize(text.size() - kReplacement.size());
  }
  return grow(text);
}

// A special token, with which a run does not end.
bool TextStream::is_left_out(int32_t token) const {
  const std::span<const int32_t> alone(&token, 1);
  return tokenizer_.decode(alone, true).empty() && !tokenizer_.decode(alone).empty();
}

std::string TextStream::finish() { return grow(tokenizer_.decode(tokens_, true)); }

std::string TextStream::grow(const std::string& text) {
  require(text.starts_with(shown_), "the text of an answer changed where it was shown");
  std::string piece = text.substr(shown_.size());
  shown_ = text;
  return piece;
}

}  // namespace phi3tune::generate
