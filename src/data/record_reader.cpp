#include "phi3tune/data/record_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

// A text of 16 MiB is some four million tokens; the parser holds it three times.
constexpr io::JsonLimits kLimits{.token = size_t{16} << 20};

constexpr size_t kBufferBytes = size_t{256} << 10;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string reason(int error) { return std::generic_category().message(error); }
bool is_blank(int c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

struct ByteFault {
  size_t at = std::string_view::npos;
  std::string what;
};

// The first byte that may not be there, whatever JSON says of it.
ByteFault find_byte_fault(std::string_view text) {
  ByteFault first;
  const auto offer = [&](size_t at, std::string what) {
    if (at < first.at) {
      first = {at, std::move(what)};
    }
  };
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    return {0, "the file is UTF-16; wanted UTF-8 (iconv -f UTF-16 -t UTF-8 converts it)"};
  }
  offer(text.find('\0'), "a NUL byte; wanted text in UTF-8");
  const size_t bad = find_invalid_utf8(text);
  if (bad != std::string_view::npos) {
    offer(bad, fmt::format("byte 0x{:02X} is not UTF-8 here; wanted text in UTF-8",
                           static_cast<unsigned>(static_cast<unsigned char>(text[bad]))));
  }
  offer(text.find(kByteOrderMark),
        "a byte order mark (U+FEFF) inside the file; remove it, or write \\ufeff where a text means it");
  for (size_t at = text.find("\\u0000"); at != std::string_view::npos; at = text.find("\\u0000", at + 1)) {
    size_t slashes = 0;
    while (slashes < at && text[at - slashes - 1] == '\\') {
      ++slashes;
    }
    if (slashes % 2 == 0) {
      offer(at, "the character NUL (\\u0000); wanted text without it");
      break;
    }
  }
  return first;
}

void place(std::string_view text, size_t at, uint64_t line, uint64_t column, RawRecord& record) {
  const auto before = text.substr(0, at);
  const auto newlines = static_cast<uint64_t>(std::count(before.begin(), before.end(), '\n'));
  record.fault_line = line + newlines;
  record.fault_column = newlines == 0 ? column + at : at - before.rfind('\n');
}

}  // namespace

RecordReader::RecordReader(std::string path, size_t max_record_bytes)
    : path_(std::move(path)), max_bytes_(max_record_bytes) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) {
    throw DataError("{}: cannot be opened: {}", path_, reason(errno));
  }
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    descriptor_ = -1;
    throw DataError("{}: is not a regular file; wanted JSON Lines or one JSON array", path_);
  }
  buffer_.resize(kBufferBytes);
}

RecordReader::~RecordReader() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

// Also polls the stop flag: a line may be as long as the file.
bool RecordReader::fill() {
  if (stop_requested()) {
    throw Interrupted("stopped while reading data; nothing was written: run the same command again");
  }
  ssize_t got = 0;
  do {
    got = ::read(descriptor_, buffer_.data(), buffer_.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    throw DataError("{}:{}: cannot be read: {}", path_, line_, reason(errno));
  }
  at_ = 0;
  size_ = static_cast<size_t>(got);
  return got > 0;
}

int RecordReader::peek() {
  if (at_ == size_ && !fill()) {
    return -1;
  }
  return static_cast<unsigned char>(buffer_[at_]);
}

void RecordReader::skip() {
  if (buffer_[at_++] == '\n') {
    ++line_;
    column_ = 1;
  } else {
    ++column_;
  }
}

void RecordReader::skip_blanks() {
  while (is_blank(peek())) {
    skip();
  }
}

// Past a byte order mark and blank lines, to the character that tells the two kinds of file apart.
void RecordReader::start() {
  if (peek() == 0xEF && size_ - at_ >= kByteOrderMark.size() &&
      std::string_view(&buffer_[at_], kByteOrderMark.size()) == kByteOrderMark) {
    at_ += kByteOrderMark.size();
  }
  skip_blanks();
  const int first = peek();
  mode_ = first == '[' ? Mode::kArray : Mode::kLines;
  if (first == '[') {
    skip();
  } else if (first >= 0) {
    blank_lines_ = line_ - 1;
  }
}

bool RecordReader::next(RawRecord& record) {
  record.value = nullptr;
  record.fault.clear();
  if (ended_) {
    return false;
  }
  if (mode_ == Mode::kUnknown) {
    start();
  }
  return mode_ == Mode::kArray ? next_element(record) : next_line(record);
}

void RecordReader::parse(std::string_view text, uint64_t line, uint64_t column, RawRecord& record) const {
  record.line = line;
  ByteFault bytes = find_byte_fault(text);
  if (bytes.at != std::string_view::npos) {
    record.fault = std::move(bytes.what);
    place(text, bytes.at, line, column, record);
    return;
  }
  io::JsonFault fault;
  if (!io::parse_json(text, record.value, fault, kLimits)) {
    record.value = nullptr;
    record.fault = std::move(fault.what);
    record.fault_line = line + fault.line - 1;
    record.fault_column = fault.line == 1 ? column + fault.column - 1 : fault.column;
    if (mode_ == Mode::kLines && text.starts_with('{') && fault.column > text.size()) {
      record.fault += "; a record stands on one line (JSON Lines), or in one JSON array [...] over many";
    }
  }
}

bool RecordReader::next_line(RawRecord& record) {
  uint64_t blanks = 0;
  while (peek() >= 0) {
    const uint64_t line = line_;
    const uint64_t column = column_;
    text_.clear();
    bool too_long = false;
    bool whole = false;
    while (!whole && peek() >= 0) {
      const char* begin = &buffer_[at_];
      const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', size_ - at_));
      whole = newline != nullptr;
      const size_t length = whole ? static_cast<size_t>(newline - begin) : size_ - at_;
      too_long = too_long || text_.size() + length > max_bytes_;
      if (!too_long) {
        text_.append(begin, length);
      }
      at_ += length + (whole ? 1 : 0);
    }
    ++line_;
    column_ = 1;
    if (too_long) {
      text_ = std::string();
      blank_lines_ += blanks;
      record.line = record.fault_line = line;
      record.fault_column = max_bytes_ + 1;
      record.fault = fmt::format("the line is longer than {}", format_bytes(max_bytes_));
      return true;
    }
    if (std::all_of(text_.begin(), text_.end(), is_blank)) {
      ++blanks;
      continue;
    }
    blank_lines_ += blanks;
    parse(text_, line, column, record);
    return true;
  }
  ended_ = true;
  return false;
}

// After the closing bracket nothing may follow.
bool RecordReader::end_array(RawRecord& record) {
  skip_blanks();
  ended_ = true;
  if (peek() < 0) {
    return false;
  }
  record.line = record.fault_line = line_;
  record.fault_column = column_;
  record.fault = "text after the array's closing bracket; a file holds one array, or one record a line";
  return true;
}

bool RecordReader::next_element(RawRecord& record) {
  if (closed_) {
    return end_array(record);
  }
  skip_blanks();
  const uint64_t line = line_;
  const uint64_t column = column_;
  if (peek() == ']' && first_element_) {
    skip();
    return end_array(record);
  }
  first_element_ = false;
  text_.clear();
  bool too_long = false;
  bool in_string = false;
  int64_t depth = 0;
  int c = peek();
  for (; c >= 0; c = peek()) {
    if (in_string) {
      if (c == '"') {
        in_string = false;
      } else if (c == '\\') {
        text_ += '\\';
        skip();
        c = peek();
        if (c < 0) {
          break;
        }
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (depth == 0 && (c == ']' || c == ',')) {
      break;
    } else if (c == '}' || c == ']') {
      depth = std::max<int64_t>(depth - 1, 0);
    }
    too_long = too_long || text_.size() >= max_bytes_;
    if (too_long) {
      text_.clear();
    }
    text_ += static_cast<char>(c);
    skip();
  }
  while (!text_.empty() && is_blank(text_.back())) {
    text_.pop_back();
  }
  record.line = record.fault_line = line;
  record.fault_column = column;
  if (c < 0) {
    ended_ = true;
    // A broken record hides the array's end: its own fault says more.
    if (!text_.empty() && !too_long) {
      parse(text_, line, column, record);
    }
    if (record.fault.empty()) {
      record.value = nullptr;
      record.fault_line = line_;
      record.fault_column = column_;
      record.fault = "the file ends inside the array; wanted ]";
    }
    return true;
  }
  skip();
  if (too_long) {
    text_ = std::string();
    record.fault = fmt::format("the record is longer than {}", format_bytes(max_bytes_));
  } else if (text_.empty()) {
    record.fault = fmt::format("found {} where a record should stand", c == ']' ? "] after a comma" : "a comma");
  } else {
    parse(text_, line, column, record);
  }
  closed_ = c == ']';
  return true;
}

}  // namespace phi3tune::data
