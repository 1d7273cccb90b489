#include "phi3tune/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <vector>

namespace phi3tune {
namespace {

// Length of the well-formed sequence at `p` (the Unicode standard's table 3-7), or 0.
size_t well_formed_length(const unsigned char* p, size_t left) {
  const auto continues = [&](size_t i, unsigned char low = 0x80, unsigned char high = 0xBF) {
    return i < left && p[i] >= low && p[i] <= high;
  };
  const unsigned char lead = p[0];
  if (lead < 0x80) {
    return 1;
  }
  if (lead >= 0xC2 && lead <= 0xDF) {
    return continues(1) ? 2 : 0;
  }
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned char low = lead == 0xE0 ? 0xA0 : 0x80;
    const unsigned char high = lead == 0xED ? 0x9F : 0xBF;
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned char low = lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xF4 ? 0x8F : 0xBF;
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

constexpr size_t kLongestLine = 1500;

// Characters that do something to a terminal, or to the order in which others are shown.
bool is_plain(char32_t c) {
  const auto within = [&](char32_t low, char32_t high) { return c >= low && c <= high; };
  return !(c < 0x20 || within(0x7F, 0x9F) || within(0x200E, 0x200F) || within(0x2028, 0x202E) ||
           within(0x2066, 0x2069) || c == 0xFEFF);
}

// A part of a line, or a line that is to be one.
void append_plain(std::string& out, std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const auto* p = reinterpret_cast<const unsigned char*>(text.data()) + at;
    const size_t length = well_formed_length(p, text.size() - at);
    if (length == 0) {
      out += fmt::format("\\x{:02x}", *p);
      ++at;
      continue;
    }
    const size_t begin = at;
    const char32_t c = next_code_point(text, at);
    if (is_plain(c)) {
      out.append(text, begin, length);
    } else if (c == '\n' || c == '\t') {
      out += c == '\n' ? "\\n" : "\\t";
    } else if (c < 0x80) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else {
      out += fmt::format("\\u{{{:04x}}}", static_cast<uint32_t>(c));
    }
  }
}

// Its begin and its end when it is long. Characters are not cut in two: what is left of one is cut off as well.
void append_line(std::string& out, std::string_view line) {
  constexpr size_t kTail = kLongestLine / 4;
  if (line.size() <= kLongestLine) {
    append_plain(out, line);
    return;
  }
  const auto continues = [&](size_t at) { return (static_cast<unsigned char>(line[at]) & 0xC0) == 0x80; };
  size_t head = kLongestLine - kTail;
  size_t tail = line.size() - kTail;
  for (size_t i = 0; i < 3; ++i) {
    head -= continues(head) ? 1 : 0;
    tail += tail < line.size() && continues(tail) ? 1 : 0;
  }
  append_plain(out, line.substr(0, head));
  out += fmt::format(" ... ({} bytes left out) ... ", tail - head);
  append_plain(out, line.substr(tail));
}

// Optimal string alignment: insert, delete, replace and swap of neighbours cost one each.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    last[j] = j;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    before_last.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

template <typename T>
std::optional<T> parse_whole(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) {
    text.remove_prefix(1);
  }
  T value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || text.empty()) {
    return std::nullopt;
  }
  return value;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Digits with at most one point among them, taken from the front of `text`.
std::optional<double> take_number(std::string_view& text) {
  size_t length = 0;
  while (length < text.size() && (is_digit(text[length]) || text[length] == '.')) {
    ++length;
  }
  const auto number = parse_whole<double>(text.substr(0, length));
  text.remove_prefix(length);
  return number;
}

void skip_spaces(std::string_view& text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
}

// "1:30:00" or "1-12:00:00". Below the largest part, hours have at most 23 and the others 59, in two digits.
std::optional<double> parse_clock(std::string_view text) {
  double days = 0;
  const auto dash = text.find('-');
  if (dash != std::string_view::npos) {
    const auto number = parse_whole<int64_t>(text.substr(0, dash));
    if (!number || dash == 0 || !is_digit(text[0])) {
      return std::nullopt;
    }
    days = static_cast<double>(*number);
    text.remove_prefix(dash + 1);
  }
  const auto first = text.find(':');
  const auto second = first == std::string_view::npos ? first : text.find(':', first + 1);
  if (second == std::string_view::npos) {
    return std::nullopt;
  }
  const std::string_view fields[] = {text.substr(0, first), text.substr(first + 1, second - first - 1),
                                     text.substr(second + 1)};
  double parts[3] = {};
  for (size_t i = 0; i < 3; ++i) {
    const auto field = fields[i];
    const bool leading = i == 0 && dash == std::string_view::npos;
    if (field.empty() || !std::all_of(field.begin(), field.end(), is_digit) || (!leading && field.size() != 2)) {
      return std::nullopt;
    }
    parts[i] = parse_whole<double>(field).value_or(0);
    if (!leading && parts[i] > (i == 0 ? 23 : 59)) {
      return std::nullopt;
    }
  }
  return days * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2];
}

// "11h30m", "2 h 07 min", "5400".
std::optional<double> parse_units(std::string_view text) {
  struct Unit {
    std::string_view name;
    double seconds;
  };
  constexpr Unit kUnits[] = {{"d", 86400}, {"h", 3600}, {"min", 60}, {"m", 60}, {"s", 1}};
  double total = 0;
  double smallest = HUGE_VAL;
  while (!text.empty()) {
    const auto number = take_number(text);
    if (!number) {
      return std::nullopt;
    }
    skip_spaces(text);
    if (text.empty() && smallest == HUGE_VAL) {
      return number;  // no unit at all: seconds
    }
    const auto* unit = std::find_if(std::begin(kUnits), std::end(kUnits),
                                    [&](const Unit& candidate) { return text.starts_with(candidate.name); });
    if (unit == std::end(kUnits) || unit->seconds >= smallest) {
      return std::nullopt;
    }
    text.remove_prefix(unit->name.size());
    skip_spaces(text);
    smallest = unit->seconds;
    total += *number * unit->seconds;
  }
  return total;
}

}  // namespace

size_t find_invalid_utf8(std::string_view text) noexcept {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  for (size_t i = 0; i < text.size();) {
    const size_t length = well_formed_length(bytes + i, text.size() - i);
    if (length == 0) {
      return i;
    }
    i += length;
  }
  return std::string_view::npos;
}

char32_t next_code_point(std::string_view text, size_t& offset) noexcept {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[offset + i]); };
  const unsigned char lead = byte(0);
  const size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t code = length == 1 ? lead : static_cast<char32_t>(lead & (0x7F >> length));
  for (size_t i = 1; i < length; ++i) {
    code = (code << 6) | (byte(i) & 0x3F);
  }
  offset += length;
  return code;
}

void append_utf8(std::string& out, char32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  const unsigned lead_mark = more == 1 ? 0xC0 : more == 2 ? 0xE0 : 0xF0;
  out += static_cast<char>(lead_mark | (code >> (6 * more)));
  for (int i = more - 1; i >= 0; --i) {
    out += static_cast<char>(0x80 | ((code >> (6 * i)) & 0x3F));
  }
}

std::string plain_lines(std::string_view text) {
  std::string out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    append_line(out, text.substr(begin, end - begin));
    if (end < text.size()) {
      out += '\n';
    }
    begin = end + 1;
  }
  return out;
}

std::string one_line(std::string_view text) {
  std::string out;
  append_line(out, text);
  return out;
}

std::optional<std::string_view> nearest_name(std::string_view word, std::span<const std::string_view> candidates) {
  std::optional<std::string_view> best;
  size_t best_distance = std::max<size_t>(word.size() / 3, 1) + 1;
  for (const auto candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string format_bytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::optional<uint64_t> parse_bytes(std::string_view text) {
  constexpr double kMost = 9223372036854775808.0;  // 2^63
  const auto is_space = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_space(text.back())) {
    text.remove_suffix(1);
  }
  size_t letters = text.size();
  while (letters > 0 && std::isalpha(static_cast<unsigned char>(text[letters - 1])) != 0) {
    --letters;
  }
  std::string unit(text.substr(letters));
  std::transform(unit.begin(), unit.end(), unit.begin(), [](unsigned char c) { return std::tolower(c); });
  double factor = 1;
  if (!unit.empty() && unit != "b") {
    const auto power = std::string_view("kmgt").find(unit[0]);
    const auto rest = unit.substr(1);
    if (power == std::string_view::npos || (rest != "ib" && rest != "b" && !rest.empty())) {
      return std::nullopt;
    }
    factor = std::pow(rest == "b" ? 1000.0 : 1024.0, static_cast<double>(power + 1));
  }
  text = text.substr(0, letters);
  while (!text.empty() && is_space(text.front())) {
    text.remove_prefix(1);
  }
  while (!text.empty() && is_space(text.back())) {
    text.remove_suffix(1);
  }
  const auto number = parse_double(text);
  if (!number || !(*number * factor >= 1) || !(*number * factor < kMost)) {
    return std::nullopt;
  }
  return static_cast<uint64_t>(*number * factor);
}

std::optional<double> parse_duration(std::string_view text) {
  skip_spaces(text);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  const auto seconds = text.find(':') == std::string_view::npos ? parse_units(text) : parse_clock(text);
  return seconds && *seconds > 0 && std::isfinite(*seconds) ? seconds : std::nullopt;
}

std::string format_double(double value) { return fmt::format("{}", value); }
std::optional<double> parse_double(std::string_view text) { return parse_whole<double>(text); }
std::optional<int64_t> parse_int(std::string_view text) { return parse_whole<int64_t>(text); }

}  // namespace phi3tune
