// Lines a person types, or lines of a pipe.
#pragma once

#include <memory>
#include <string>

namespace phi3tune::commands {

class LineReader {
 public:
  enum class Got {
    kLine,
    kEnd,          // of the input
    kInterrupted,  // Ctrl-C: what was typed is gone
    kStopped       // another signal
  };

  virtual ~LineReader() = default;
  // `prompt` is shown on a terminal alone. The line comes without its newline.
  virtual Got next(const std::string& prompt, std::string& line) = 0;
  // More of a pasted text is there already.
  virtual bool more_waits() = 0;
  // A person sits there.
  virtual bool interactive() const noexcept = 0;

  // Of the process's standard input: with editing and a history where input and error are a terminal.
  static std::unique_ptr<LineReader> of_process();
};

}  // namespace phi3tune::commands
