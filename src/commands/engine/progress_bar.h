// One line of a terminal, drawn over itself; evaluations and shown steps stay above it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "commands/engine/progress.h"

namespace phi3tune::commands {

// Columns of the terminal on standard error; 80 where it does not say.
int terminal_columns();

class ProgressBar final : public train::TrainObserver {
 public:
  // `columns` is asked at every drawing; `write` takes raw text.
  ProgressBar(int64_t logging_steps, std::function<int()> columns, Write write)
      : shown_(logging_steps), columns_(std::move(columns)), write_(std::move(write)) {}
  ~ProgressBar() override;
  void on_start(const train::RunPlan& plan) override;
  void on_micro_batch(int64_t step, int64_t done, int64_t all) override;
  void on_step(const train::StepMetrics& metrics) override;
  void on_evaluation_batch(const std::string& name, int64_t done, int64_t all) override;
  void on_evaluation(const train::EvalMetrics& metrics) override;
  void on_save(const train::SaveMetrics& metrics) override;
  void on_finish(const train::TrainResult& result) override;

 private:
  void draw(double share, const std::string& label, bool always);
  void clear();
  void print(const std::string& line);

  ShownSteps shown_;
  std::function<int()> columns_;
  Write write_;
  std::string state_;  // loss and time left, after the last step
  bool drawn_ = false;
  std::chrono::steady_clock::time_point drawn_at_{};
};

}  // namespace phi3tune::commands
