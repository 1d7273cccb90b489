// Errors by who must act. A message says place, what was found, what was wanted, and the way out.
//
// Only `main` prints errors; everything below throws one of these.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "phi3tune/core/text.h"

namespace phi3tune {

// Process exit codes.
enum class ExitCode : int {
  kDone = 0,
  kUsage = 2,        // settings or usage wrong
  kInput = 3,        // data or model files wrong
  kResource = 4,     // does not fit, disk full, device lost
  kDiverged = 5,     // NaN or infinity; nothing bad was saved
  kCheckpoint = 6,   // checkpoint or adapter damaged or mismatched
  kBug = 70,         // our bug
  kInterrupted = 75  // stopped by a signal after saving: run the same command again
};

// The message may hold several lines, one fault a line. Whatever a file puts into it, it is fit for a terminal
// (plain_lines).
class Error : public std::runtime_error {
 public:
  ExitCode exit_code() const noexcept { return exit_code_; }

 protected:
  Error(ExitCode code, const std::string& message) : std::runtime_error(plain_lines(message)), exit_code_(code) {}

 private:
  ExitCode exit_code_;
};

template <ExitCode kCode>
class ErrorOf : public Error {
 public:
  explicit ErrorOf(const std::string& message) : Error(kCode, message) {}
  template <typename... Args>
  requires(sizeof...(Args) > 0) explicit ErrorOf(fmt::format_string<Args...> format, Args&&... args)
      : Error(kCode, fmt::format(format, std::forward<Args>(args)...)) {}
};

struct ConfigError : ErrorOf<ExitCode::kUsage> {
  using ErrorOf::ErrorOf;
};
struct DataError : ErrorOf<ExitCode::kInput> {
  using ErrorOf::ErrorOf;
};
struct ModelError : ErrorOf<ExitCode::kInput> {
  using ErrorOf::ErrorOf;
};
struct ResourceError : ErrorOf<ExitCode::kResource> {
  using ErrorOf::ErrorOf;
};
struct NumericsError : ErrorOf<ExitCode::kDiverged> {
  using ErrorOf::ErrorOf;
};
struct CheckpointError : ErrorOf<ExitCode::kCheckpoint> {
  using ErrorOf::ErrorOf;
};
// A stop was asked for while loading or reading: nothing is lost, the same command starts again.
struct Interrupted : ErrorOf<ExitCode::kInterrupted> {
  using ErrorOf::ErrorOf;
};
struct InternalError : ErrorOf<ExitCode::kBug> {
  using ErrorOf::ErrorOf;
};

// A check of our own reasoning: false means a bug of ours.
inline void require(bool condition, const char* what) {
  if (!condition) {
    throw InternalError("internal error: {}", what);
  }
}

}  // namespace phi3tune
