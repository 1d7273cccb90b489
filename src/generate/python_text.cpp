#include "generate/python_text.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "phi3tune/core/text.h"

namespace phi3tune::generate {
namespace {

struct LowerRun {
  uint32_t first;
  uint32_t last;
  uint32_t step;
  int32_t move;
};
struct CodePointRange {
  uint32_t first;
  uint32_t last;
};

#include "generate/text_tables.inc"

// The entry that begins at or before it, or null.
template <typename Entry, size_t kCount>
const Entry* entry_at(const Entry (&table)[kCount], char32_t c) {
  const auto* after = std::upper_bound(std::begin(table), std::end(table), static_cast<uint32_t>(c),
                                       [](uint32_t value, const Entry& entry) { return value < entry.first; });
  return after == std::begin(table) || c > std::prev(after)->last ? nullptr : std::prev(after);
}

char32_t lower_of(char32_t c) {
  if (c < 0x80) {
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
  }
  const auto* run = entry_at(kLowerRuns, c);
  return run != nullptr && (c - run->first) % run->step == 0
             ? static_cast<char32_t>(static_cast<int32_t>(c) + run->move)
             : c;
}

constexpr char32_t kCapitalSigma = 0x3A3;
constexpr char32_t kCapitalIWithDot = 0x130;

// A capital sigma is another small letter at the end of a word than inside it.
bool ends_word(const std::u32string& text, size_t at) {
  const auto ignorable = [&](size_t i) { return entry_at(kCaseIgnorableRanges, text[i]) != nullptr; };
  const auto cased = [&](size_t i) { return entry_at(kCasedRanges, text[i]) != nullptr; };
  size_t before = at;
  while (before > 0 && ignorable(before - 1)) {
    --before;
  }
  if (before == 0 || !cased(before - 1)) {
    return false;
  }
  size_t after = at + 1;
  while (after < text.size() && ignorable(after)) {
    ++after;
  }
  return after == text.size() || !cased(after);
}

}  // namespace

bool is_space(char32_t c) noexcept { return entry_at(kSpaceRanges, c) != nullptr; }

bool is_word(char32_t c) noexcept { return entry_at(kWordRanges, c) != nullptr; }

std::u32string lower(std::string_view text) {
  std::u32string all;
  for (size_t at = 0; at < text.size();) {
    all += next_code_point(text, at);
  }
  std::u32string low;
  low.reserve(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i] == kCapitalIWithDot) {
      low += U"i\u0307";
    } else if (all[i] == kCapitalSigma) {
      low += ends_word(all, i) ? char32_t{0x3C2} : char32_t{0x3C3};
    } else {
      low += lower_of(all[i]);
    }
  }
  return low;
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> words;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    if (is_space(next_code_point(text, at))) {
      if (here > begin) {
        words.push_back(text.substr(begin, here - begin));
      }
      begin = at;
    }
  }
  if (begin < text.size()) {
    words.push_back(text.substr(begin));
  }
  return words;
}

std::string_view strip_end(std::string_view text) {
  const auto words = split(text);
  return words.empty() ? std::string_view() : text.substr(0, static_cast<size_t>(words.back().end() - text.begin()));
}

std::string join(const std::vector<std::string_view>& words, std::string_view between) {
  std::string text;
  for (const auto word : words) {
    text += text.empty() ? std::string_view() : between;
    text += word;
  }
  return text;
}

std::string to_utf8(std::u32string_view text) {
  std::string bytes;
  for (const char32_t c : text) {
    append_utf8(bytes, c);
  }
  return bytes;
}

}  // namespace phi3tune::generate
