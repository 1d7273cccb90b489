#include "config/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "phi3tune/core/pattern.h"
#include "phi3tune/core/text.h"

namespace phi3tune::config {
namespace {

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\n");
  return begin == std::string_view::npos ? std::string_view()
                                         : text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

}  // namespace

void FaultList::add(const io::Position& position, std::string_view text) {
  faults_.push_back({position, fmt::format("{}: {}", position.text(), text)});
}

void FaultList::add_lines(std::string_view lines) {
  while (!lines.empty()) {
    const auto end = lines.find('\n');
    faults_.push_back({{}, std::string(lines.substr(0, end))});
    lines = end == std::string_view::npos ? std::string_view() : lines.substr(end + 1);
  }
}

std::string FaultList::text(const std::vector<std::string>& files) const {
  auto sorted = faults_;
  const auto order = [&](const Fault& fault) {
    const auto file = std::find(files.begin(), files.end(), fault.position.file);
    const bool in_file = fault.position.line > 0;
    return std::tuple(in_file ? file - files.begin() : static_cast<std::ptrdiff_t>(files.size()), fault.position.line,
                      fault.position.column);
  };
  std::stable_sort(sorted.begin(), sorted.end(), [&](const Fault& a, const Fault& b) { return order(a) < order(b); });
  std::string text;
  for (const auto& fault : sorted) {
    text += (text.empty() ? "" : "\n") + fault.line;
  }
  return text;
}

bool Range::holds(double value) const noexcept {
  return (low_open ? value > low : value >= low) && (high_open ? value < high : value <= high);
}

namespace {

// The largest int64_t is no double.
std::string bound_text(double bound) { return bound >= kMostSeed ? "9223372036854775807" : format_double(bound); }

}  // namespace

std::string wanted_in(std::string_view what, const Range& range) {
  std::string text(what);
  const bool from = std::isfinite(range.low);
  if (from) {
    text += fmt::format(" {} {}", range.low_open ? ">" : ">=", format_double(range.low));
  }
  if (std::isfinite(range.high)) {
    text += fmt::format("{} {} {}", from ? " and" : "", range.high_open ? "<" : "<=", bound_text(range.high));
  }
  return text;
}

std::string found(const io::YamlNode& node) {
  switch (node.kind) {
    case io::YamlNode::Kind::kNull:
      return "nothing";
    case io::YamlNode::Kind::kSequence:
      return "a list";
    case io::YamlNode::Kind::kMapping:
      return "a mapping";
    case io::YamlNode::Kind::kScalar:
      break;
  }
  constexpr size_t kShown = 60;
  std::string text = node.scalar.substr(0, kShown);
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  while (!text.empty() && find_invalid_utf8(text) != std::string_view::npos) {
    text.pop_back();  // a character cut in two
  }
  return fmt::format("\"{}{}\"", text, node.scalar.size() > kShown ? "..." : "");
}

void Reader::fault(const io::YamlNode& node, std::string_view text) {
  faults_.add(node.position, fmt::format("{}: {}", name_, text));
}

void Reader::wrong(const io::YamlNode& node, std::string_view wanted) {
  fault(node, fmt::format("found {}; wanted {}", found(node), wanted));
}

void Reader::note(const io::YamlNode& node, std::string_view text) {
  notes_.push_back(fmt::format("{}: {}: {}", node.position.text(), name_, text));
}

std::optional<int64_t> Reader::integer(const io::YamlNode& node, const Range& range) {
  return integer(node, range, wanted_in("an integer", range));
}

std::optional<int64_t> Reader::integer(const io::YamlNode& node, const Range& range, std::string_view wanted) {
  if (node.kind == io::YamlNode::Kind::kScalar) {
    auto value = parse_int(trimmed(node.scalar));
    if (!value) {
      constexpr double kExact = 9007199254740992.0;  // 2^53: every integer below is a double
      const auto real = parse_double(trimmed(node.scalar));
      if (real && std::abs(*real) <= kExact && *real == std::floor(*real)) {
        value = static_cast<int64_t>(*real);  // 2e3
      }
    }
    if (value && range.holds(static_cast<double>(*value))) {
      return value;
    }
  }
  wrong(node, wanted);
  return std::nullopt;
}

std::optional<double> Reader::number(const io::YamlNode& node, const Range& range) {
  if (node.kind == io::YamlNode::Kind::kScalar) {
    const auto value = parse_double(trimmed(node.scalar));
    if (value && std::isfinite(*value) && range.holds(*value)) {
      return value;
    }
  }
  wrong(node, wanted_in("a number", range));
  return std::nullopt;
}

std::optional<bool> boolean_value(const io::YamlNode& node, bool* plain) {
  if (node.kind != io::YamlNode::Kind::kScalar) {
    return std::nullopt;
  }
  const auto text = lower_case(node.scalar);
  if (plain != nullptr) {
    *plain = !node.quoted && (text == "true" || text == "false");
  }
  if (text == "true" || text == "yes" || text == "on") {
    return true;
  }
  if (text == "false" || text == "no" || text == "off") {
    return false;
  }
  return std::nullopt;
}

std::optional<bool> Reader::boolean(const io::YamlNode& node) {
  bool plain = true;
  const auto value = boolean_value(node, &plain);
  if (!value) {
    wrong(node, "true or false");
  } else if (!plain) {
    note(node, fmt::format("{} is read as {}", found(node), *value));
  }
  return value;
}

std::optional<std::string> Reader::text(const io::YamlNode& node) {
  if (node.kind != io::YamlNode::Kind::kScalar) {
    wrong(node, "a text");
    return std::nullopt;
  }
  return node.scalar;
}

std::optional<std::string> Reader::input_path(const io::YamlNode& node) {
  if (node.kind != io::YamlNode::Kind::kScalar || node.scalar.empty()) {
    wrong(node, "a path");
    return std::nullopt;
  }
  std::filesystem::path path(node.scalar);
  if (node.position.line > 0) {
    path = std::filesystem::path(node.position.file).parent_path() / path;  // an absolute path stays as it is
  }
  auto normal = path.lexically_normal();
  if (!normal.has_filename() && normal.has_parent_path()) {
    normal = normal.parent_path();  // no slash at the end
  }
  return normal.string();
}

std::optional<std::vector<std::string>> Reader::text_list(const io::YamlNode& node) {
  std::vector<std::string> values;
  if (node.kind == io::YamlNode::Kind::kScalar) {
    std::string_view rest = node.scalar;
    while (!rest.empty()) {
      const auto comma = std::min(rest.find(','), rest.size());
      if (const auto item = trimmed(rest.substr(0, comma)); !item.empty()) {
        values.emplace_back(item);
      }
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
    return values;
  }
  if (node.kind != io::YamlNode::Kind::kSequence) {
    wrong(node, "a list of texts");
    return std::nullopt;
  }
  bool good = true;
  for (const auto& item : node.items) {
    if (item.kind != io::YamlNode::Kind::kScalar) {
      wrong(item, "a text");
      good = false;
    } else {
      values.push_back(item.scalar);
    }
  }
  return good ? std::optional(values) : std::nullopt;
}

std::optional<std::string> Reader::regex(const io::YamlNode& node) {
  const auto pattern = text(node);
  if (!pattern) {
    return std::nullopt;
  }
  try {
    const Pattern compiled(*pattern);
  } catch (const PatternFault& error) {
    fault(node, fmt::format("{} is no regular expression: {}", found(node), error.what()));
    return std::nullopt;
  }
  return pattern;
}

}  // namespace phi3tune::config
