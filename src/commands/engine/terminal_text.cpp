#include "terminal_text.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "phi3tune/core/text.h"

namespace phi3tune::commands {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr const char* kClearLine = "\r\x1b[K";
constexpr size_t kUnknownColumns = 80;  // where a terminal does not say

// Where the first `characters` characters end.
size_t end_of(std::string_view text, size_t characters) {
  size_t at = 0;
  for (size_t i = 0; i < characters && at < text.size(); ++i) {
    (void)next_code_point(text, at);
  }
  return at;
}

}  // namespace

size_t columns_of(int descriptor) {
  if (isatty(descriptor) == 0) {
    return kNoColumns;
  }
  winsize size{};
  return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUnknownColumns;
}

std::string wrapped(std::string_view text, size_t columns, size_t indent) {
  if (columns == kNoColumns) {
    return std::string(text);
  }
  constexpr size_t kLeast = 20;  // narrower is no text
  const size_t width = std::max(kLeast, columns > indent ? columns - indent : 0);
  std::string lines;
  for (;;) {
    size_t end = end_of(text, width);
    if (end == text.size()) {
      return lines.append(text);
    }
    const size_t blank = text.rfind(' ', end);
    const bool breaks = blank != std::string_view::npos && blank > 0;
    end = breaks ? blank : end;
    lines.append(text.substr(0, end)).append("\n").append(indent, ' ');
    text.remove_prefix(end + (breaks ? 1 : 0));
  }
}

StatusLine::StatusLine(bool shown) : shown_(shown && columns_of(STDERR_FILENO) != kNoColumns) {}

void StatusLine::show(const std::string& text) {
  const auto now = std::chrono::steady_clock::now();
  if (!shown_ || (drawn_ && now - drawn_at_ < kRedraw)) {
    return;
  }
  const auto line = one_line(text);
  fmt::print(stderr, "{}{}", kClearLine, line.substr(0, end_of(line, columns_of(STDERR_FILENO) - 1)));
  std::fflush(stderr);
  drawn_ = true;
  drawn_at_ = now;
}

void StatusLine::clear() {
  if (drawn_) {
    fmt::print(stderr, "{}", kClearLine);
    std::fflush(stderr);
    drawn_ = false;
  }
}

}  // namespace phi3tune::commands
