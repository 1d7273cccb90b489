#define PCRE2_CODE_UNIT_WIDTH 8
#include "phi3tune/core/pattern.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <new>

namespace phi3tune {
namespace {

// Module names have some forty characters: an honest pattern needs a few hundred tries.
constexpr uint32_t kMatchLimit = 200'000;

std::string describe(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

struct FreeMatch {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

}  // namespace

Pattern::Pattern(const std::string& text) {
  const std::string whole = "(?:" + text + ")";
  int code = 0;
  PCRE2_SIZE offset = 0;
  // The pattern alone first: "a)(b" is none, though it is one between the brackets.
  for (const std::string& one : {text, whole}) {
    pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(one.data()), one.size(),
                                         PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &code, &offset, nullptr);
    if (compiled == nullptr) {
      throw PatternFault(fmt::format("{} at character {}", describe(code), offset + 1));
    }
    code_ = std::shared_ptr<const void>(
        compiled, [](const void* held) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(held))); });
  }
}

bool Pattern::matches_whole(std::string_view text) const {
  const auto* compiled = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, FreeMatch> data(pcre2_match_data_create(1, nullptr));
  const std::unique_ptr<pcre2_match_context, FreeMatch> context(pcre2_match_context_create(nullptr));
  if (data == nullptr || context == nullptr) {
    throw std::bad_alloc();
  }
  pcre2_set_match_limit(context.get(), kMatchLimit);
  const int found =
      pcre2_match(compiled, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0, data.get(), context.get());
  if (found >= 0) {
    return true;
  }
  if (found == PCRE2_ERROR_NOMATCH) {
    return false;
  }
  throw PatternFault(fmt::format("matching \"{}\" fails: {}", text, describe(found)));
}

}  // namespace phi3tune
