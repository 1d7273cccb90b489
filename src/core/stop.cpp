#include "phi3tune/core/stop.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <limits>

#include "phi3tune/core/error.h"

namespace phi3tune {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
// Job managers, and `timeout`, give one request twice: to the process and to its group.
constexpr int64_t kOneRequest = 300'000'000;  // ns

std::atomic<bool> g_stop{false};
std::atomic<int64_t> g_first_signal{0};   // ns of the monotonic clock; 0: none came
std::atomic<int64_t> g_deadline{kNever};  // ns of the steady clock
std::atomic<bool> g_save{false};
std::atomic<bool> g_soft{false};         // SIGINT ends what is being done, no more
std::atomic<bool> g_interrupted{false};  // it came, and was not taken back
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free,
              "they are written in a signal handler");

int64_t nanoseconds(Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

int64_t monotonic_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);  // may be called in a handler, which of std::chrono nobody promises
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

template <size_t kLength>
void say(const char (&word)[kLength]) {
  [[maybe_unused]] const auto written = write(STDERR_FILENO, word, kLength - 1);
}

void on_stop_signal(int signal) {
  if (signal == SIGINT && g_soft.load()) {
    g_interrupted.store(true);
    g_stop.store(true);
    return;
  }
  const int before = errno;
  const int64_t now = monotonic_now();
  int64_t first = 0;
  if (g_first_signal.compare_exchange_strong(first, now)) {
    g_stop.store(true);
    say("\nstopping; a second signal ends at once; what was saved stands\n");
  } else if (now - first > kOneRequest) {
    _exit(static_cast<int>(ExitCode::kInterrupted));
  }
  errno = before;
}

void on_save_signal(int) {
  const int before = errno;
  g_save.store(true);
  say("\na checkpoint is saved at the end of this step\n");
  errno = before;
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A lost terminal stops a run as a signal does, unless nohup says otherwise.
  struct sigaction hangup {};
  if (sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
    sigaction(SIGHUP, &action, nullptr);
  }
  action.sa_handler = on_save_signal;
  sigaction(SIGUSR1, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
}

void soften_interrupts() noexcept { g_soft.store(true); }

bool take_interrupt() noexcept {
  if (!g_interrupted.exchange(false)) {
    return false;
  }
  g_stop.store(false);
  if (g_first_signal.load() != 0 || g_interrupted.load()) {  // another may have come just now
    g_stop.store(true);
  }
  return true;
}

bool stop_requested() noexcept {
  if (g_stop.load(std::memory_order_relaxed)) {
    return true;
  }
  const int64_t deadline = g_deadline.load(std::memory_order_relaxed);
  return deadline != kNever && nanoseconds(Clock::now()) >= deadline;
}

void request_stop() noexcept { g_stop.store(true, std::memory_order_relaxed); }

void forget_stop() noexcept {
  g_stop.store(false);
  g_first_signal.store(0);
  g_deadline.store(kNever);
  g_save.store(false);
  g_soft.store(false);
  g_interrupted.store(false);
}

void stop_at(Clock::time_point deadline) noexcept {
  g_deadline.store(nanoseconds(deadline), std::memory_order_relaxed);
}

const char* stop_reason() noexcept {
  if (g_stop.load(std::memory_order_relaxed)) {
    return "a signal";
  }
  return stop_requested() ? "max_time" : "";
}

bool take_save_request() noexcept { return g_save.exchange(false, std::memory_order_relaxed); }
void request_save() noexcept { g_save.store(true, std::memory_order_relaxed); }

}  // namespace phi3tune
