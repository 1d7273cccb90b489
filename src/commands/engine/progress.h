// What a person or a program sees of a run while it goes: a bar on a terminal, plain lines elsewhere, JSON events.
//
// logging_steps says how often a step is shown; the loss shown is the mean over the steps since the last one shown. The
// first and the last step and every evaluation always are.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "phi3tune/config/options.h"
#include "phi3tune/train/metrics.h"

namespace phi3tune::commands {

using Write = std::function<void(std::string_view)>;

// Where things go in this process.
struct ProgressSinks {
  bool stderr_is_terminal = false;
  bool json = false;  // --json was given
};
ProgressSinks sinks_of_process(bool json);

// kAuto: events with --json, else the bar if standard error is a terminal, else lines. Bar and lines go to standard
// error, events to standard output.
std::unique_ptr<train::TrainObserver> make_progress(const config::OutputOptions& options, const ProgressSinks& sinks);

// Whether that is lines.
bool is_plain(const config::OutputOptions& options, const ProgressSinks& sinks);

// Which steps are shown, and the mean loss since the one before.
class ShownSteps {
 public:
  explicit ShownSteps(int64_t every) : every_(every) {}
  void start(const train::RunPlan& plan) { max_steps_ = plan.max_steps; }
  // True if this step is to be shown; then mean_loss() and seconds_left() are set.
  bool take(const train::StepMetrics& metrics);
  double mean_loss() const noexcept { return mean_loss_; }
  double seconds_left() const noexcept { return seconds_left_; }
  int64_t max_steps() const noexcept { return max_steps_; }

 private:
  int64_t every_;
  int64_t max_steps_ = 0;
  double loss_sum_ = 0.0;
  int64_t loss_count_ = 0;
  double mean_loss_ = 0.0;
  double seconds_ = 0.0;  // of all steps so far
  int64_t steps_ = 0;
  double seconds_left_ = 0.0;
};

// One line an event, through `write` (without the newline).
class PlainProgress final : public train::TrainObserver {
 public:
  PlainProgress(int64_t logging_steps, Write write) : shown_(logging_steps), write_(std::move(write)) {}
  void on_start(const train::RunPlan& plan) override;
  void on_step(const train::StepMetrics& metrics) override;
  void on_evaluation(const train::EvalMetrics& metrics) override;
  void on_save(const train::SaveMetrics& metrics) override;
  void on_finish(const train::TrainResult& result) override;

 private:
  ShownSteps shown_;
  Write write_;
};

// One JSON object a line: {"event": "start" | "step" | "evaluation" | "end", ...}.
class JsonProgress final : public train::TrainObserver {
 public:
  JsonProgress(int64_t logging_steps, Write write) : shown_(logging_steps), write_(std::move(write)) {}
  void on_start(const train::RunPlan& plan) override;
  void on_step(const train::StepMetrics& metrics) override;
  void on_evaluation(const train::EvalMetrics& metrics) override;
  void on_save(const train::SaveMetrics& metrics) override;
  void on_finish(const train::TrainResult& result) override;

 private:
  ShownSteps shown_;
  Write write_;
};

// The sentences that lines and bar share.
std::string start_text(const train::RunPlan& plan);
std::string step_text(const train::StepMetrics& metrics, const ShownSteps& shown);
std::string evaluation_text(const train::EvalMetrics& metrics);
std::string save_text(const train::SaveMetrics& metrics);
const char* reason_name(train::SaveReason reason) noexcept;  // "due", "best", "asked", "stopped", "end"
std::string finish_text(const train::TrainResult& result);
std::string duration_text(double seconds);  // "42 s", "3 min 05 s", "2 h 07 min"

}  // namespace phi3tune::commands
