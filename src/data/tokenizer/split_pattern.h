// A regular expression of a tokenizer.json that cuts text into words, with the meaning Oniguruma gives it.
//
// Matching is PCRE2's, but its Unicode tables are not asked: text that is not ASCII is matched through a shadow in
// which every character is replaced by one stand-in of its general category, so only the classes of unicode.h decide.
// For that the pattern may hold ASCII literals, general categories and \s, \d only; anything else is refused.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace phi3tune::data {

struct Range {
  size_t begin = 0;
  size_t end = 0;
};

class SplitPattern {
 public:
  // `place` names the file and field for errors. Throws ModelError for a pattern outside the supported subset.
  SplitPattern(std::string pattern, std::string place);
  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;
  ~SplitPattern();

  // The pattern of GPT-2, which ByteLevel applies with use_regex.
  static std::string_view gpt2() noexcept;

  // Memory of one thread, kept between texts; serves every pattern.
  class Scratch {
   public:
    Scratch();
    Scratch(Scratch&&) noexcept;
    ~Scratch();

   private:
    friend class SplitPattern;
    struct State;
    std::unique_ptr<State> state_;
  };

  // Appends the matches, in order; they do not overlap and are never empty. Throws DataError if matching exceeds its
  // limits.
  void find_all(std::string_view text, Scratch& scratch, std::vector<Range>& matches) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace phi3tune::data
