// The program's log: plain lines on standard error. Results of commands go to standard output and never through here.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace phi3tune {

enum class LogLevel { kDebug, kInfo, kWarning };

// Lines below `level` are dropped. Default: kInfo.
void set_log_level(LogLevel level);
void log_line(LogLevel level, std::string_view line);

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace phi3tune
