// Faults of one file, collected so that they can be reported together.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "phi3tune/core/text.h"
#include "phi3tune/io/json.h"

namespace phi3tune::phi3 {

class Faults {
 public:
  // More than `most` are counted, not listed.
  explicit Faults(size_t most = 100) : most_(most) {}

  // A line "place: ...".
  template <typename... Args>
  void add(const std::string& place, fmt::format_string<Args...> format, Args&&... args) {
    if (++count_ <= most_) {
      lines_.push_back(place + ": " + one_line(fmt::format(format, std::forward<Args>(args)...)));
    } else {
      left_out_ = place;
    }
  }
  // Whole lines, as another error carried them.
  void add_lines(const std::string& lines) {
    ++whole_;
    lines_.push_back(lines);
  }

  bool empty() const noexcept { return size() == 0; }
  size_t size() const noexcept { return count_ + whole_; }
  std::string text() const {
    const std::string more = count_ <= most_ ? "" : fmt::format("\n{}: and {} more faults", left_out_, count_ - most_);
    return fmt::format("{}{}", fmt::join(lines_, "\n"), more);
  }

 private:
  size_t most_;
  size_t count_ = 0;
  size_t whole_ = 0;
  std::string left_out_;  // the last place of those
  std::vector<std::string> lines_;
};

// A JSON value as a message shows it: compact, and cut to a length that fits a line.
inline std::string shown(const io::Json& value) {
  constexpr size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', true);
  if (text.size() > kLongest) {
    text = text.substr(0, kLongest) + "...";
  }
  return text;
}

// The keys of one JSON object, read with their types checked; what is wrong goes to the faults and reads as absent.
class Fields {
 public:
  Fields(const io::Json& object, std::string place, Faults& faults, std::string prefix = "")
      : object_(object), place_(std::move(place)), faults_(faults), prefix_(std::move(prefix)) {}

  // The value of a key, or null when it is absent or null.
  const io::Json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  template <typename... Args>
  void fault(const char* key, fmt::format_string<Args...> format, Args&&... args) {
    faults_.add(place_, "{}{}: {}", prefix_, key, fmt::format(format, std::forward<Args>(args)...));
  }

  std::optional<int64_t> integer(const char* key, int64_t low, int64_t high) {
    const auto* value = find(key);
    if (value == nullptr) {
      return std::nullopt;
    }
    if (!value->is_number_integer() || *value < low || *value > high) {
      fault(key, "found {}, wanted a whole number from {} to {}", shown(*value), low, high);
      return std::nullopt;
    }
    return value->get<int64_t>();
  }

  std::optional<double> number(const char* key) {
    const auto* value = find(key);
    if (value == nullptr) {
      return std::nullopt;
    }
    if (!value->is_number()) {
      fault(key, "found {}, wanted a number", shown(*value));
      return std::nullopt;
    }
    return value->get<double>();
  }

  std::optional<bool> boolean(const char* key) {
    const auto* value = find(key);
    if (value == nullptr) {
      return std::nullopt;
    }
    if (!value->is_boolean()) {
      fault(key, "found {}, wanted true or false", shown(*value));
      return std::nullopt;
    }
    return value->get<bool>();
  }

  std::optional<std::string> text(const char* key) {
    const auto* value = find(key);
    if (value == nullptr) {
      return std::nullopt;
    }
    if (!value->is_string()) {
      fault(key, "found {}, wanted text", shown(*value));
      return std::nullopt;
    }
    return value->get<std::string>();
  }

 private:
  const io::Json& object_;
  std::string place_;
  Faults& faults_;
  std::string prefix_;
};

}  // namespace phi3tune::phi3
