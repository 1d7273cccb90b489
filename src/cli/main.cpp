// phi3-tune: fine-tunes Phi-3 models with LoRA and QLoRA. The only place that prints errors.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "cli/command_line.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"

namespace {

// A line each: a report of several faults stays one line a fault.
int fail(std::string_view message, phi3tune::ExitCode code) {
  while (!message.empty()) {
    const auto end = message.find('\n');
    const auto line = std::string(message.substr(0, end));
    std::fprintf(stderr, "error: %s\n", line.c_str());
    message = end == std::string_view::npos ? std::string_view() : message.substr(end + 1);
  }
  return static_cast<int>(code);
}

template <size_t kLength>
[[noreturn]] void end_with(const char (&line)[kLength], phi3tune::ExitCode code) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line, kLength - 1);
  std::_Exit(static_cast<int>(code));
}

// Where no exception can pass, as in a destructor of a library that allocates: one line still, and no abort.
[[noreturn]] void on_terminate() {
  if (const auto fault = std::current_exception()) {
    try {
      std::rethrow_exception(fault);
    } catch (const std::bad_alloc&) {
      end_with("error: memory ran out; what was saved before stands\n", phi3tune::ExitCode::kResource);
    } catch (...) {
    }
  }
  end_with("error: internal error, please report it: an exception where none can pass\n", phi3tune::ExitCode::kBug);
}

}  // namespace

int main(int argc, char** argv) {
  std::set_terminate(on_terminate);
  phi3tune::install_signal_handlers();
  try {
    const int code = phi3tune::cli::CommandLine().run({argv + 1, argv + argc});
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      return fail("standard output cannot be written", phi3tune::ExitCode::kResource);
    }
    return code;
  } catch (const phi3tune::Error& error) {
    return fail(error.what(), error.exit_code());
  } catch (const std::bad_alloc&) {
    return fail("memory ran out; what was saved before stands", phi3tune::ExitCode::kResource);
  } catch (const std::exception& error) {
    return fail(std::string("internal error, please report it: ") + error.what(), phi3tune::ExitCode::kBug);
  }
}
