#include "data/tokenizer/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <utility>

#include "data/tokenizer/split_pattern_check.h"
#include "data/tokenizer/unicode.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

// One character a category that every Unicode version since 6 puts there, in the order of Category.
constexpr std::array<char32_t, 29> kStandIns = {
    0xC0, 0xE0, 0x1C5, 0x2B0, 0xAA, 0x300, 0x903, 0x488, 0x660,  0x16EE, 0xB2, 0x203F, 0x2010, 0xF3A, 0xF3B,
    0xAB, 0xBB, 0xA1,  0xAC,  0xA2, 0xA8,  0xA6,  0xA0,  0x2028, 0x2029, 0x80, 0xAD,   0xE000, 0x378};

// Letters that fold to ASCII ones stay themselves: (?i:s) matches U+017F, (?i:k) U+212A. U+0085 is the only whitespace
// outside the Z categories.
char32_t stand_in(char32_t c) {
  if (c < 0x80 || c == 0x85 || c == 0x17F || c == 0x212A) {
    return c;
  }
  return kStandIns[static_cast<size_t>(category_of(c))];
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

constexpr size_t kJitStackStart = size_t{32} << 10;
constexpr size_t kJitStackMost = size_t{8} << 20;

}  // namespace

struct SplitPattern::Code {
  pcre2_code* code = nullptr;
  std::string place;
  ~Code() { pcre2_code_free(code); }
};

struct SplitPattern::Scratch::State {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr);
  std::string shadow;
  State() {
    if (match == nullptr || context == nullptr) {
      throw std::bad_alloc();
    }
    if (stack != nullptr) {
      pcre2_jit_stack_assign(context, nullptr, stack);
    }
    pcre2_set_match_limit(context, 0xFFFFFFFF);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
  }
};

SplitPattern::Scratch::Scratch() : state_(std::make_unique<State>()) {}
SplitPattern::Scratch::Scratch(Scratch&&) noexcept = default;
SplitPattern::Scratch::~Scratch() = default;

SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;
SplitPattern::~SplitPattern() = default;

std::string_view SplitPattern::gpt2() noexcept {
  return R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
}

SplitPattern::SplitPattern(std::string pattern, std::string place) : code_(std::make_unique<Code>()) {
  constexpr size_t kLongest = 4096;
  if (pattern.empty() || pattern.size() > kLongest) {
    throw ModelError("{}: a pattern of {} bytes, wanted 1 to {}", place, pattern.size(), kLongest);
  }
  if (const std::string fault = unsupported_in_pattern(pattern); !fault.empty()) {
    throw ModelError(
        "{}: {} is not among what this program reads in a split pattern (ASCII literals, sets, \\p{{general "
        "category}}, "
        "\\s, \\d, alternatives, look-ahead, repetition of single characters)",
        place, fault);
  }
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                              &error, &offset, nullptr);
  if (code_->code == nullptr) {
    std::array<PCRE2_UCHAR, 160> text{};
    pcre2_get_error_message(error, text.data(), text.size());
    throw ModelError("{}: at character {}: {}", place, offset + 1, reinterpret_cast<const char*>(text.data()));
  }
  uint32_t may_be_empty = 0;
  pcre2_pattern_info(code_->code, PCRE2_INFO_MATCHEMPTY, &may_be_empty);
  if (may_be_empty != 0) {
    throw ModelError("{}: the pattern can match nothing at all, wanted one that always takes a character", place);
  }
  code_->place = std::move(place);
  // Where the library has no compiler of its own, matching is slower and the same.
  (void)pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);
}

void SplitPattern::find_all(std::string_view text, Scratch& scratch, std::vector<Range>& matches) const {
  Scratch::State& state = *scratch.state_;
  std::string_view subject = text;
  const bool shadowed = !is_ascii(text);
  if (shadowed) {
    state.shadow.clear();
    for (size_t at = 0; at < text.size();) {
      append_utf8(state.shadow, stand_in(next_code_point(text, at)));
    }
    subject = state.shadow;
  }
  // The same place in the shadow and in the text.
  size_t shadow_at = 0;
  size_t text_at = 0;
  const auto text_place = [&](size_t place) {
    if (!shadowed) {
      return place;
    }
    while (shadow_at < place) {
      shadow_at += sequence_length(subject[shadow_at]);
      text_at += sequence_length(text[text_at]);
    }
    return text_at;
  };
  size_t from = 0;
  while (from < subject.size()) {
    int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), from,
                            PCRE2_NO_UTF_CHECK, state.match, state.context);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), from,
                          PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state.match, state.context);
    }
    if (found == PCRE2_ERROR_NOMATCH) {
      return;
    }
    if (found < 0) {
      throw DataError("a text of {} cannot be cut by the pattern of {}: it needs more steps or memory than allowed",
                      format_bytes(text.size()), code_->place);
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state.match);
    const size_t begin = text_place(ends[0]);
    const size_t end = text_place(ends[1]);
    matches.push_back({begin, end});
    from = ends[1];
  }
}

}  // namespace phi3tune::data
