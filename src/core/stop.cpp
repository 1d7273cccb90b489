#include "phi3tune/core/stop.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

#include "phi3tune/core/error.h"

namespace phi3tune {
namespace {

std::atomic<bool> g_stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "the flag is set in a signal handler");

void on_signal(int) {
  if (g_stop.exchange(true)) {
    _exit(static_cast<int>(ExitCode::kInterrupted));
  }
  constexpr char kWord[] = "\nstopping; a second signal ends at once, with nothing saved\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, kWord, sizeof(kWord) - 1);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A lost terminal stops a run as a signal does, unless nohup says otherwise.
  struct sigaction hangup {};
  if (sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
    sigaction(SIGHUP, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
}

bool stop_requested() noexcept { return g_stop.load(std::memory_order_relaxed); }
void request_stop() noexcept { g_stop.store(true, std::memory_order_relaxed); }

}  // namespace phi3tune
