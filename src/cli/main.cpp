// phi3-tune: fine-tunes Phi-3 models with LoRA and QLoRA. The only place that prints errors.
#include <cstdio>
#include <exception>
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

}  // namespace

int main(int argc, char** argv) {
  phi3tune::install_signal_handlers();
  try {
    const int code = phi3tune::cli::CommandLine().run({argv + 1, argv + argc});
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      return fail("standard output cannot be written", phi3tune::ExitCode::kResource);
    }
    return code;
  } catch (const phi3tune::Error& error) {
    return fail(error.what(), error.exit_code());
  } catch (const std::exception& error) {
    return fail(std::string("internal error, please report it: ") + error.what(), phi3tune::ExitCode::kBug);
  }
}
