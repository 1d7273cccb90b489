// The stop flag: set by SIGINT, SIGTERM, SIGHUP or a deadline, polled by loops: two loads of memory a call, and a look
// at the clock where there is a deadline. Lives in the base library, so there is one in the process.
#pragma once

#include <chrono>

namespace phi3tune {

// SIGINT, SIGTERM and SIGHUP (unless ignored, as nohup does) set the flag; a second one ends the process at once with
// exit code 75. What comes within 0.3 s of the first is the same request: `timeout` and job managers send it to the
// process and to its group. SIGUSR1 asks for a checkpoint. SIGPIPE and SIGXFSZ are ignored, so that a full pipe or file
// limit is an error code, not a death.
void install_signal_handlers();

// For a conversation: from then on SIGINT asks for no more than the end of what is being done. It says nothing, ends no
// process however often it comes, and take_interrupt() takes it back. The other signals stay what they are.
void soften_interrupts() noexcept;
// True when SIGINT came since the last call; unless another stop was asked for, none is requested any more.
bool take_interrupt() noexcept;

// A signal came, or the time is up.
bool stop_requested() noexcept;
// For tests. The second also takes back a deadline and a request to save.
void request_stop() noexcept;
void forget_stop() noexcept;

// From then on a stop is requested (max_time). A signal after that is a first one.
void stop_at(std::chrono::steady_clock::time_point deadline) noexcept;
// Why: "a signal", "max_time"; "" when no stop is requested.
const char* stop_reason() noexcept;

// SIGUSR1 came since the last call.
bool take_save_request() noexcept;
void request_save() noexcept;

}  // namespace phi3tune
