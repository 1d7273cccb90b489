// Regular expressions over whole names, bounded in time.
//
// PCRE2, whose syntax is that of Python's `re` (which PEFT uses) as far as module names go.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace phi3tune {

// The pattern cannot be read, or matching it takes more than a set number of tries. For the caller to put into its own
// error with the place.
struct PatternFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Pattern {
 public:
  // Throws PatternFault.
  explicit Pattern(const std::string& text);
  // Throws PatternFault when the text is too hard for the pattern, as "(.*)*x" makes it.
  bool matches_whole(std::string_view text) const;

 private:
  std::shared_ptr<const void> code_;
};

}  // namespace phi3tune
