#include "phi3tune/io/json.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <iterator>
#include <unordered_set>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/json_members.h"

namespace phi3tune::io {
namespace {

// Walks the text and keeps, in a place all its copies share, how far the parser has read.
struct CountingIterator {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* at = nullptr;
  const char** furthest = nullptr;

  reference operator*() const { return *at; }
  CountingIterator& operator++() {
    *furthest = ++at;
    return *this;
  }
  CountingIterator operator++(int) {
    auto before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const CountingIterator& a, const CountingIterator& b) { return a.at == b.at; }
  friend bool operator!=(const CountingIterator& a, const CountingIterator& b) { return a.at != b.at; }
};

void place_fault(std::string_view text, size_t offset, JsonFault& fault) {
  offset = std::min(offset, text.size());
  fault.line = 1;
  size_t line_start = 0;
  for (size_t i = 0; i < offset; ++i) {
    if (text[i] == '\n') {
      ++fault.line;
      line_start = i + 1;
    }
  }
  fault.column = offset - line_start + 1;
}

// The library's message without its number and its position, fit for a terminal: bytes that are not UTF-8 by their hex
// codes, long quotations cut.
std::string plain_message(std::string_view message) {
  if (const size_t column = message.find("column "); column != std::string_view::npos) {
    if (const size_t colon = message.find(": ", column); colon != std::string_view::npos) {
      message.remove_prefix(colon + 2);
    }
  } else if (const size_t bracket = message.find("] "); bracket != std::string_view::npos) {
    message.remove_prefix(bracket + 2);
  }
  constexpr std::string_view kLastRead = "last read: '";
  constexpr size_t kLongestQuote = 40;
  std::string cut(message);
  if (const size_t quote = cut.find(kLastRead); quote != std::string::npos) {
    const size_t begin = quote + kLastRead.size();
    const size_t end = cut.rfind('\'');
    if (end != std::string::npos && end > begin + kLongestQuote) {
      cut.replace(begin, end - begin - kLongestQuote, "...");
    }
  }
  std::string clean;
  for (std::string_view rest = cut; !rest.empty();) {
    const size_t bad = find_invalid_utf8(rest);
    clean += rest.substr(0, bad);
    if (bad == std::string_view::npos) {
      break;
    }
    clean += fmt::format("\\x{:02x}", static_cast<unsigned char>(rest[bad]));
    rest.remove_prefix(bad + 1);
  }
  return clean;
}

class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  // With `member`, members of the root object go there and the root stays empty.
  TreeBuilder(std::string_view text, Json& root, JsonFault& fault, const JsonLimits& limits,
              const JsonMember* member = nullptr)
      : text_(text), root_(root), fault_(fault), limits_(limits), member_(member) {}

  const char** furthest() { return &furthest_; }

  bool null() override { return place(nullptr); }
  bool boolean(bool value) override { return place(value); }
  bool number_integer(number_integer_t value) override { return place(value); }
  bool number_unsigned(number_unsigned_t value) override { return place(value); }
  bool number_float(number_float_t value, const string_t&) override { return place(value); }
  bool string(string_t& value) override { return place(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // not JSON

  bool start_object(std::size_t) override { return open(Json::value_t::object); }
  bool start_array(std::size_t) override { return open(Json::value_t::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto& level = levels_.back();
    if (member_ != nullptr && levels_.size() == 1) {
      member_name_ = std::move(name);
      level.slot = &member_value_;
      return true;
    }
    auto& members = level.node->get_ref<Json::object_t&>();
    if (members.size() >= limits_.members) {
      return fault(key_start(), fmt::format("more than {} members in one object", limits_.members));
    }
    if (has_key(level, members, name)) {
      return fault(key_start(), fmt::format("key \"{}\" is given twice in one object", one_line(name)));
    }
    // The base's emplace_back: the map's own insertion looks for the key from the start each time.
    static_cast<Json::object_t::Container&>(members).emplace_back(std::move(name), nullptr);
    level.slot = &members.back().second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    if (position > text_.size()) {
      return fault(text_.size(), "the text ends too early: " + plain_message(error.what()));
    }
    return fault(position == 0 ? offset() : position - 1, plain_message(error.what()));
  }

 private:
  struct Level {
    Json* node;
    Json* slot;                        // object: the value of the last key
    std::unordered_set<size_t> names;  // hashes, filled once an object has many keys
  };
  static constexpr size_t kFewKeys = 16;

  size_t offset() const { return furthest_ == nullptr ? 0 : static_cast<size_t>(furthest_ - text_.data()); }

  // A key has just been read up to its closing quote: the offset of its opening one.
  size_t key_start() const {
    size_t i = offset() - 1;
    while (i > 0) {
      --i;
      if (text_[i] == '"') {
        size_t backslashes = 0;
        while (i > backslashes && text_[i - backslashes - 1] == '\\') {
          ++backslashes;
        }
        if (backslashes % 2 == 0) {
          break;
        }
      }
    }
    return i;
  }

  static bool has_key(Level& level, const Json::object_t& members, const std::string& name) {
    const auto is_there = [&] {
      return std::any_of(members.begin(), members.end(), [&](const auto& member) { return member.first == name; });
    };
    if (members.size() < kFewKeys) {
      return is_there();
    }
    const std::hash<std::string> hash;
    if (level.names.empty()) {
      for (const auto& member : members) {
        level.names.insert(hash(member.first));
      }
    }
    return !level.names.insert(hash(name)).second && is_there();
  }

  bool count() {
    return ++values_ <= limits_.values || fault(offset(), fmt::format("more than {} values", limits_.values));
  }

  template <typename T>
  bool place(T&& value) {
    if (!count()) {
      return false;
    }
    next() = Json(std::forward<T>(value));
    return finish_value();
  }

  // A value is complete: a member of the root goes to whoever wants them one by one.
  bool finish_value() {
    if (member_ == nullptr) {
      return true;
    }
    if (levels_.empty() && !root_.is_object()) {
      return fault(0, "wanted an object");
    }
    if (levels_.size() == 1) {
      if (!root_.is_object()) {
        return fault(0, "wanted an object");
      }
      values_ = 0;  // it is kept no longer
      (*member_)(member_name_, member_value_);
    }
    return true;
  }

  Json& next() {
    if (levels_.empty()) {
      return root_;
    }
    auto& level = levels_.back();
    if (level.node->is_array()) {
      auto& items = level.node->get_ref<Json::array_t&>();
      return items.emplace_back();
    }
    return *level.slot;
  }

  bool open(Json::value_t kind) {
    if (levels_.size() >= limits_.depth) {
      return fault(offset() - 1, fmt::format("nested deeper than {} levels", limits_.depth));
    }
    if (!count()) {
      return false;
    }
    Json& node = next();
    node = Json(kind);
    levels_.push_back({&node, nullptr, {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    return finish_value();
  }

  bool fault(size_t offset, std::string what) {
    place_fault(text_, offset, fault_);
    fault_.what = std::move(what);
    return false;
  }

  std::string_view text_;
  Json& root_;
  JsonFault& fault_;
  JsonLimits limits_;
  const JsonMember* member_;
  std::string member_name_;
  Json member_value_;
  const char* furthest_ = nullptr;
  size_t values_ = 0;
  std::vector<Level> levels_;
};

struct Descriptor {
  int value = -1;
  ~Descriptor() {
    if (value >= 0) {
      ::close(value);
    }
  }
};

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Where a text, or a stretch without one, begins that is longer than `longest`; the parser keeps each twice while it
// reads. A broken text is the parser's to find.
size_t find_long_token(std::string_view text, size_t longest) {
  if (text.size() <= longest) {
    return std::string_view::npos;
  }
  constexpr std::string_view kStructure = "[]{},:";
  size_t begin = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
      begin = i;
    } else if (!quoted && kStructure.find(text[i]) != std::string_view::npos) {
      begin = i;
    }
    if (i - begin > longest) {
      return begin;
    }
  }
  return std::string_view::npos;
}

bool parse(std::string_view text, Json& value, JsonFault& fault, const JsonLimits& limits, const JsonMember* member) {
  value = nullptr;
  if (text.starts_with(kByteOrderMark)) {
    place_fault(text, 0, fault);
    fault.what = "a byte order mark in front of the value";
    return false;
  }
  if (const size_t bad = find_invalid_utf8(text); bad != std::string_view::npos) {
    place_fault(text, bad, fault);
    fault.what = fmt::format("byte 0x{:02x} is not UTF-8", static_cast<unsigned char>(text[bad]));
    return false;
  }
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    place_fault(text, nul, fault);
    fault.what = "a NUL byte";
    return false;
  }
  if (const size_t begin = find_long_token(text, limits.token); begin != std::string_view::npos) {
    place_fault(text, begin, fault);
    fault.what = fmt::format("more than {} in one piece", format_bytes(limits.token));
    return false;
  }
  TreeBuilder builder(text, value, fault, limits, member);
  *builder.furthest() = text.data();
  const CountingIterator begin{text.data(), builder.furthest()};
  const CountingIterator end{text.data() + text.size(), builder.furthest()};
  if (!Json::sax_parse(begin, end, &builder)) {
    value = nullptr;
    return false;
  }
  return true;
}

}  // namespace

bool parse_json(std::string_view text, Json& value, JsonFault& fault, const JsonLimits& limits) {
  return parse(text, value, fault, limits, nullptr);
}

bool parse_json_members(std::string_view text, const JsonMember& member, JsonFault& fault, const JsonLimits& limits) {
  Json empty_root;
  return parse(text, empty_root, fault, limits, &member);
}

template <typename ErrorType>
std::string read_text_file(const std::string& path, size_t max_bytes) {
  const auto fail = [&](int code) -> ErrorType {
    return ErrorType("{}: cannot be read: {}", path, std::strerror(code));
  };
  // Non-blocking: a pipe nobody writes to must not hang the open.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.value < 0) {
    throw fail(errno);
  }
  struct stat status {};
  if (::fstat(file.value, &status) != 0) {
    throw fail(errno);
  }
  if (!S_ISREG(status.st_mode)) {
    throw ErrorType("{}: {}, wanted a file", path, S_ISDIR(status.st_mode) ? "a folder" : "not a regular file");
  }
  const auto too_large = [&] {
    return ErrorType("{}: larger than {}, the most that is read of such a file", path, format_bytes(max_bytes));
  };
  if (static_cast<size_t>(status.st_size) > max_bytes) {
    throw too_large();
  }
  std::string text;
  text.resize(static_cast<size_t>(status.st_size) + 1);
  size_t filled = 0;
  while (true) {
    if (filled == text.size()) {
      text.resize(text.size() * 2);
    }
    const ssize_t got = ::read(file.value, text.data() + filled, text.size() - filled);
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw fail(errno);
    }
    if (got == 0) {
      break;
    }
    filled += static_cast<size_t>(got);
    if (filled > max_bytes) {
      throw too_large();
    }
  }
  text.resize(filled);
  return text;
}

template <typename ErrorType>
Json read_json_file(const std::string& path, size_t max_bytes, const JsonLimits& limits) {
  const std::string text = read_text_file<ErrorType>(path, max_bytes);
  std::string_view body = text;
  if (body.starts_with(kByteOrderMark)) {
    body.remove_prefix(kByteOrderMark.size());
  }
  Json value;
  JsonFault fault;
  if (!parse_json(body, value, fault, limits)) {
    throw ErrorType("{}:{}:{}: {}", path, fault.line, fault.column, fault.what);
  }
  return value;
}

template std::string read_text_file<ConfigError>(const std::string&, size_t);
template std::string read_text_file<DataError>(const std::string&, size_t);
template std::string read_text_file<ModelError>(const std::string&, size_t);
template std::string read_text_file<CheckpointError>(const std::string&, size_t);
template Json read_json_file<ConfigError>(const std::string&, size_t, const JsonLimits&);
template Json read_json_file<DataError>(const std::string&, size_t, const JsonLimits&);
template Json read_json_file<ModelError>(const std::string&, size_t, const JsonLimits&);
template Json read_json_file<CheckpointError>(const std::string&, size_t, const JsonLimits&);

}  // namespace phi3tune::io
