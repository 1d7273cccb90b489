#include "commands/engine/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace phi3tune::commands {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr const char* kClearLine = "\r\x1b[K";

}  // namespace

int terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

ProgressBar::~ProgressBar() { clear(); }

void ProgressBar::clear() {
  if (drawn_) {
    write_(kClearLine);
    drawn_ = false;
  }
}

void ProgressBar::print(const std::string& line) {
  clear();
  write_(line + "\n");
}

void ProgressBar::draw(double share, const std::string& label, bool always) {
  const auto now = std::chrono::steady_clock::now();
  if (!always && drawn_ && now - drawn_at_ < kRedraw) {
    return;
  }
  const int columns = std::max(1, columns_() - 1);
  const int width = std::clamp(columns - static_cast<int>(label.size()) - 3, 0, 40);
  const int filled = std::clamp(static_cast<int>(share * width), 0, width);
  std::string line = width >= 5 ? fmt::format("[{}{}] {}", std::string(static_cast<size_t>(filled), '#'),
                                              std::string(static_cast<size_t>(width - filled), ' '), label)
                                : label;
  line.resize(std::min(line.size(), static_cast<size_t>(columns)));
  write_(kClearLine + line);
  drawn_ = true;
  drawn_at_ = now;
}

void ProgressBar::on_start(const train::RunPlan& plan) {
  shown_.start(plan);
  print(start_text(plan));
}

void ProgressBar::on_micro_batch(int64_t step, int64_t done, int64_t all) {
  const double steps = static_cast<double>(step - 1) + static_cast<double>(done) / static_cast<double>(all);
  draw(steps / static_cast<double>(shown_.max_steps()), fmt::format("{}/{}{}", step, shown_.max_steps(), state_),
       false);
}

void ProgressBar::on_step(const train::StepMetrics& metrics) {
  const bool shown = shown_.take(metrics);
  state_ = fmt::format("  loss {:.4f}  {:.0f} tokens/s  {} left", metrics.loss, metrics.tokens_per_second,
                       duration_text(shown_.seconds_left()));
  if (shown) {
    print(step_text(metrics, shown_));
  }
  draw(static_cast<double>(metrics.step) / static_cast<double>(shown_.max_steps()),
       fmt::format("{}/{}{}", metrics.step, shown_.max_steps(), state_), shown);
}

void ProgressBar::on_evaluation_batch(const std::string& name, int64_t done, int64_t all) {
  draw(static_cast<double>(done) / static_cast<double>(all), fmt::format("evaluating {} {}/{}", name, done, all),
       false);
}

void ProgressBar::on_evaluation(const train::EvalMetrics& metrics) { print(evaluation_text(metrics)); }

void ProgressBar::on_save(const train::SaveMetrics& metrics) { print(save_text(metrics)); }
void ProgressBar::on_finish(const train::TrainResult& result) { print(finish_text(result)); }

}  // namespace phi3tune::commands
