// metrics.jsonl: one object per optimizer step and per evaluation, numbers with every digit.
//
//   {"step", "epoch", "loss", "grad_norm", "learning_rate", "trained_tokens", "tokens", "tokens_per_second",
//    "memory_bytes", "seconds"}
//   {"step", "epoch", "set", "eval_loss", "eval_tokens", "eval_token_accuracy", "seconds"}
//
// Token counts are of the step; memory_bytes is the process's peak resident memory so far.
#pragma once

#include <string>

#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/json.h"
#include "phi3tune/train/metrics.h"

namespace phi3tune::commands {

io::Json step_json(const train::StepMetrics& metrics);
io::Json evaluation_json(const train::EvalMetrics& metrics);

class RunLog final : public train::TrainObserver {
 public:
  // Throws ResourceError, as every call does when the disk refuses.
  explicit RunLog(const std::string& path) : file_(path) {}
  void on_step(const train::StepMetrics& metrics) override { file_.write_line(step_json(metrics).dump()); }
  void on_evaluation(const train::EvalMetrics& metrics) override { file_.write_line(evaluation_json(metrics).dump()); }
  void on_finish(const train::TrainResult&) override { file_.sync(); }

 private:
  io::LineWriter file_;
};

}  // namespace phi3tune::commands
