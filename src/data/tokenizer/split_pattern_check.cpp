#include "data/tokenizer/split_pattern_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

namespace phi3tune::data {
namespace {

constexpr std::array<std::string_view, 37> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps",
    "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Cn"};

class Reader {
 public:
  explicit Reader(std::string_view pattern) : pattern_(pattern) {}

  std::string fault() {
    while (fault_.empty() && at_ < pattern_.size()) {
      item();
    }
    if (fault_.empty() && !groups_.empty()) {
      fault_ = "a group that is not closed";
    }
    return fault_;
  }

 private:
  struct Group {
    bool caseless = false;
  };

  char peek(size_t ahead = 0) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }
  bool starts(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool caseless() const { return !groups_.empty() && groups_.back().caseless; }
  void refuse(size_t length) { fault_ = fmt::format("{} at character {}", pattern_.substr(at_, length), at_ + 1); }

  void item() {
    const char c = peek();
    if (static_cast<unsigned char>(c) >= 0x80 || static_cast<unsigned char>(c) < 0x20) {
      fault_ = fmt::format("a character that is not printable ASCII at byte {}", at_ + 1);
    } else if (c == '(') {
      open();
    } else if (c == ')') {
      close();
    } else if (c == '[') {
      set();
    } else if (c == '\\') {
      escape();
      quantifier();
    } else if (c == '|') {
      ++at_;
    } else if (c == '.' || c == '^' || c == '$' || c == '*' || c == '+' || c == '?' || c == '{') {
      refuse(1);
    } else if (caseless() && folds_with_next()) {
      refuse(2);
    } else {
      ++at_;
      quantifier();
    }
  }

  // Oniguruma folds these pairs to one letter ("ss" to U+00DF, "fi" to U+FB01 ...), PCRE2 does not.
  bool folds_with_next() const {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    const char a = lower(peek());
    const char b = lower(peek(1));
    return (a == 's' && (b == 's' || b == 't')) || (a == 'f' && (b == 'f' || b == 'i' || b == 'l'));
  }

  void open() {
    // (?i:...), (?:...), and the look-aheads (?=...) and (?!...).
    const bool folds = starts("(?i:");
    if (folds || starts("(?:") || starts("(?!") || starts("(?=")) {
      groups_.push_back({folds || caseless()});
      at_ += folds ? 4 : 3;
    } else {
      refuse(3);
    }
  }

  void close() {
    if (groups_.empty()) {
      refuse(1);
      return;
    }
    groups_.pop_back();
    ++at_;
    // Repeated groups can take exponential time: only an optional one is read.
    if (peek() == '*' || peek() == '+' || peek() == '{') {
      refuse(1);
    } else if (peek() == '?') {
      ++at_;
      if (peek() == '?' || peek() == '+' || peek() == '*' || peek() == '{') {
        refuse(1);
      }
    }
  }

  void quantifier() {
    if (!fault_.empty()) {
      return;
    }
    if (peek() == '{') {
      const size_t close = pattern_.find('}', at_);
      const std::string_view inside =
          close == std::string_view::npos ? std::string_view() : pattern_.substr(at_ + 1, close - at_ - 1);
      const bool counts = !inside.empty() && inside.size() <= 7 && inside.front() != ',' &&
                          inside.find_first_not_of("0123456789,") == std::string_view::npos &&
                          std::count(inside.begin(), inside.end(), ',') <= 1;
      if (!counts) {
        refuse(1);
        return;
      }
      at_ = close + 1;
      // "{1,3}+" is possessive for one engine and a second repetition for the other.
      if (peek() == '+' || peek() == '?' || peek() == '*' || peek() == '{') {
        refuse(1);
      }
    } else if (peek() == '*' || peek() == '+' || peek() == '?') {
      ++at_;
      if (peek() == '+' || peek() == '?') {  // possessive or lazy: alike in both engines
        ++at_;
      }
      if (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{') {
        refuse(1);
      }
    }
  }

  void escape() {
    const char c = peek(1);
    if (c == 'p' || c == 'P') {
      const size_t close = pattern_.find('}', at_);
      const std::string_view name =
          peek(2) == '{' && close != std::string_view::npos ? pattern_.substr(at_ + 3, close - at_ - 3) : "";
      if (name.empty() || std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end() || caseless()) {
        refuse(std::min<size_t>(8, close == std::string_view::npos ? 2 : close - at_ + 1));
        return;
      }
      at_ = close + 1;
    } else if (c == 's' || c == 'S' || c == 'd' || c == 'D' || c == 'r' || c == 'n' || c == 't') {
      at_ += 2;
    } else if (c != '\0' && std::string_view("\\.[](){}|*+?^$/-'\"#&~<>=!:, ").find(c) != std::string_view::npos) {
      at_ += 2;
    } else {
      refuse(2);
    }
  }

  void set() {
    const size_t begin = at_;
    ++at_;
    if (peek() == '^') {
      ++at_;
    }
    if (peek() == ']') {
      refuse(1);
      return;
    }
    while (fault_.empty() && peek() != ']') {
      const char c = peek();
      if (at_ >= pattern_.size()) {
        at_ = begin;
        refuse(1);
      } else if (static_cast<unsigned char>(c) >= 0x80 || static_cast<unsigned char>(c) < 0x20 || c == '[' ||
                 starts("&&")) {
        refuse(1);
      } else if (c == '\\') {
        escape();
      } else {
        ++at_;
      }
    }
    if (fault_.empty()) {
      ++at_;
      quantifier();
    }
  }

  std::string_view pattern_;
  size_t at_ = 0;
  std::vector<Group> groups_;
  std::string fault_;
};

}  // namespace

std::string unsupported_in_pattern(std::string_view pattern) { return Reader(pattern).fault(); }

}  // namespace phi3tune::data
