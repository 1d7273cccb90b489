#include "cli/checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "phi3tune/core/text.h"

namespace phi3tune::cli {
namespace {

// A validator's message; nothing when the text fits.
std::string unless(bool fits, const std::string& text, const std::string& wanted) {
  return fits ? std::string() : fmt::format("found {}; wanted {}", text, wanted);
}

}  // namespace

CLI::Validator whole_number(int64_t low, int64_t high) {
  return CLI::Validator(
      [=](const std::string& text) {
        const auto value = parse_int(text);
        return unless(value && *value >= low && *value <= high && text == fmt::to_string(*value), text,
                      fmt::format("a whole number from {} to {}", low, high));
      },
      "");
}

CLI::Validator not_negative() {
  return CLI::Validator(
      [](const std::string& text) {
        uint64_t value = 0;
        const auto* end = text.data() + text.size();
        const auto [stopped, code] = std::from_chars(text.data(), end, value);
        return unless(code == std::errc() && stopped == end && text == fmt::to_string(value), text,
                      fmt::format("a whole number from 0 to {}", UINT64_MAX));
      },
      "");
}

CLI::Validator number(double low, double high, bool or_zero) {
  return CLI::Validator(
      [=](const std::string& text) {
        const auto value = parse_double(text);
        const bool fits = value && ((*value >= low && *value <= high) || (or_zero && *value == 0.0));
        return unless(fits, text, fmt::format("{}a number from {} to {}", or_zero ? "0, or " : "", low, high));
      },
      "");
}

CLI::Validator one_of(const std::vector<std::string>& names) {
  return CLI::Validator(
      [=](const std::string& text) {
        const bool fits = std::find(names.begin(), names.end(), text) != names.end();
        return unless(fits, text, fmt::format("one of {}", fmt::join(names, ", ")));
      },
      fmt::format("{{{}}}", fmt::join(names, ",")));
}

}  // namespace phi3tune::cli
