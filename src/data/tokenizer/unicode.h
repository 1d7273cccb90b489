// Character classes exactly as Hugging Face's tokenizers sees them (its regex engine's Unicode, not this machine's).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace phi3tune::data {

// Unicode general categories, in the order of unicode_tables.inc.
// clang-format off
enum class Category : uint8_t {
  kLu, kLl, kLt, kLm, kLo, kMn, kMc, kMe, kNd, kNl, kNo, kPc, kPd, kPs, kPe, kPi, kPf, kPo,
  kSm, kSc, kSk, kSo, kZs, kZl, kZp, kCc, kCf, kCo, kCn
};
// clang-format on

Category category_of(char32_t code_point) noexcept;
// Numeric for the Digits pre-tokeniser: categories Nd, Nl and No of its own Unicode version.
bool is_numeric(char32_t code_point) noexcept;
// A word character (\w) for added tokens with single_word.
bool is_word(char32_t code_point) noexcept;

// Whitespace (the White_Space property, \s) at the start or end of well-formed UTF-8: its length in bytes.
size_t leading_whitespace(std::string_view text) noexcept;
size_t trailing_whitespace(std::string_view text) noexcept;
bool is_whitespace(char32_t code_point) noexcept;

// The code point that ends just before `end` (> 0) in well-formed UTF-8.
char32_t code_point_before(std::string_view text, size_t end) noexcept;

// Bytes of the well-formed sequence that starts with `lead`.
inline size_t sequence_length(char lead) noexcept {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

}  // namespace phi3tune::data
