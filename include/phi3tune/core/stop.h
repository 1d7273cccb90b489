// The stop flag: set by SIGINT, SIGTERM or SIGHUP, polled by loops. Lives in the base library, so there is one in the
// process.
#pragma once

namespace phi3tune {

// SIGINT, SIGTERM and SIGHUP (unless ignored, as nohup does) set the flag; a second one ends the process at once with
// exit code 75. SIGPIPE and SIGXFSZ are ignored, so that a full pipe or file limit is an error code, not a death.
void install_signal_handlers();
bool stop_requested() noexcept;
// For tests and for `max_time`.
void request_stop() noexcept;

}  // namespace phi3tune
