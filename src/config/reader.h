// Reads single values: strict about types, kind about spelling. Every fault is kept, none is thrown.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "phi3tune/io/yaml.h"

namespace phi3tune::config {

// Faults in the order of the sources: by file, line and column; those without a line keep their order, last.
class FaultList {
 public:
  void add(const io::Position& position, std::string_view text);
  // Lines that already carry their place, e.g. what() of another reader.
  void add_lines(std::string_view lines);
  size_t size() const noexcept { return faults_.size(); }
  std::string text(const std::vector<std::string>& files) const;

 private:
  struct Fault {
    io::Position position;
    std::string line;
  };
  std::vector<Fault> faults_;
};

struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;
  bool high_open = false;
  bool holds(double value) const noexcept;
};
inline constexpr Range at_least(double low) { return {.low = low}; }
inline constexpr Range above(double low) { return {.low = low, .low_open = true}; }
inline constexpr Range between(double low, double high) { return {.low = low, .high = high}; }
// No count is larger: sums and products of two of them are far from the end of int64_t.
inline constexpr double kMostSteps = 2147483647;
inline constexpr double kMostRows = 1048576;  // of one pass
inline constexpr double kMostSeed = 9223372036854775807.0;
inline constexpr Range count_from(double low) { return between(low, kMostSteps); }

// "an integer >= 1", "a number > 0 and < 1".
std::string wanted_in(std::string_view what, const Range& range);
// "nothing", "a list", "a mapping", or the text in quotes, shortened.
std::string found(const io::YamlNode& node);

// What reading one setting needs to know, and where it leaves faults and notes.
class Reader {
 public:
  Reader(std::string name, FaultList& faults, std::vector<std::string>& notes)
      : name_(std::move(name)), faults_(faults), notes_(notes) {}
  // The same lists, for a value inside this one.
  Reader inside(std::string_view suffix) const { return {name_ + std::string(suffix), faults_, notes_}; }

  const std::string& name() const noexcept { return name_; }
  void fault(const io::YamlNode& node, std::string_view text);
  void wrong(const io::YamlNode& node, std::string_view wanted);
  void note(const io::YamlNode& node, std::string_view text);

  // Nullopt after a fault.
  std::optional<int64_t> integer(const io::YamlNode& node, const Range& range);
  // `wanted`: in words, where more than the integers is.
  std::optional<int64_t> integer(const io::YamlNode& node, const Range& range, std::string_view wanted);
  std::optional<double> number(const io::YamlNode& node, const Range& range);
  std::optional<bool> boolean(const io::YamlNode& node);
  std::optional<std::string> text(const io::YamlNode& node);
  // An input path stands relative to the file that names it; a path from elsewhere to the current folder.
  std::optional<std::string> input_path(const io::YamlNode& node);
  // A list, or one text with commas.
  std::optional<std::vector<std::string>> text_list(const io::YamlNode& node);
  // A regular expression (ECMAScript grammar), which must match a whole module name.
  std::optional<std::string> regex(const io::YamlNode& node);

 private:
  std::string name_;
  FaultList& faults_;
  std::vector<std::string>& notes_;
};

// A boolean as people write it, or nullopt. `plain` is false for yes/no/on/off and quoted text.
std::optional<bool> boolean_value(const io::YamlNode& node, bool* plain = nullptr);

// Replaces ${VAR} and ${VAR:-default} in every text of the tree ("$${" stands for "${").
void expand_variables(io::YamlNode& node, FaultList& faults);

}  // namespace phi3tune::config
