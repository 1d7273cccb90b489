#include "data/tokenizer/unicode.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

struct CategoryRun {
  uint32_t first;
  uint8_t category;
};
struct CodePointRange {
  uint32_t first;
  uint32_t last;
};

#include "data/tokenizer/unicode_tables.inc"

constexpr uint32_t kCodePoints = 0x110000;

// One byte a code point: pattern splitting asks for every character that is not ASCII.
const std::vector<uint8_t>& category_table() {
  static const std::vector<uint8_t> table = [] {
    std::vector<uint8_t> filled(kCodePoints);
    const size_t count = std::size(kCategoryRuns);
    for (size_t i = 0; i < count; ++i) {
      const uint32_t end = i + 1 < count ? kCategoryRuns[i + 1].first : kCodePoints;
      std::fill(filled.begin() + kCategoryRuns[i].first, filled.begin() + end, kCategoryRuns[i].category);
    }
    return filled;
  }();
  return table;
}

template <size_t kCount>
bool in_ranges(const CodePointRange (&ranges)[kCount], char32_t code_point) {
  const auto* after = std::upper_bound(std::begin(ranges), std::end(ranges), static_cast<uint32_t>(code_point),
                                       [](uint32_t value, const CodePointRange& range) { return value < range.first; });
  return after != std::begin(ranges) && code_point <= std::prev(after)->last;
}

}  // namespace

Category category_of(char32_t code_point) noexcept {
  static const uint8_t* const table = category_table().data();
  return code_point < kCodePoints ? static_cast<Category>(table[code_point]) : Category::kCn;
}

bool is_numeric(char32_t code_point) noexcept {
  return code_point < 0x80 ? code_point >= '0' && code_point <= '9' : in_ranges(kNumericRanges, code_point);
}

bool is_word(char32_t code_point) noexcept { return in_ranges(kWordRanges, code_point); }

bool is_whitespace(char32_t c) noexcept {
  return c == ' ' || (c >= 0x09 && c <= 0x0D) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t leading_whitespace(std::string_view text) noexcept {
  size_t end = 0;
  while (end < text.size()) {
    size_t next = end;
    if (!is_whitespace(next_code_point(text, next))) {
      break;
    }
    end = next;
  }
  return end;
}

char32_t code_point_before(std::string_view text, size_t end) noexcept {
  size_t start = end - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) {
    --start;
  }
  return next_code_point(text, start);
}

size_t trailing_whitespace(std::string_view text) noexcept {
  size_t start = text.size();
  while (start > 0) {
    const char32_t last = code_point_before(text, start);
    if (!is_whitespace(last)) {
      break;
    }
    start -= last < 0x80 ? 1 : last < 0x800 ? 2 : 3;
  }
  return text.size() - start;
}

}  // namespace phi3tune::data
