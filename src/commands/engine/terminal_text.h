// Text on a terminal: how wide it is, lines that fit, and a line drawn over itself.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace phi3tune::commands {

inline constexpr size_t kNoColumns = 0;  // of a file or a pipe: nothing is cut or wrapped for it

// Columns of the terminal behind this descriptor, kNoColumns where there is none.
size_t columns_of(int descriptor);

// `text` on lines of at most `columns` characters, broken at blanks where there are any; every line after the first
// begins with `indent` blanks, and the first is taken to begin behind as many. kNoColumns: as it is.
std::string wrapped(std::string_view text, size_t columns, size_t indent = 0);

// What is being done, on standard error, where a person sees it and no log keeps it; nothing without a terminal.
class StatusLine {
 public:
  explicit StatusLine(bool shown);
  ~StatusLine() { clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  void show(const std::string& text);
  // Before anything else is written there.
  void clear();

 private:
  bool shown_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point drawn_at_{};
};

}  // namespace phi3tune::commands
