// metrics.jsonl: one object per optimizer step and per evaluation, numbers with every digit.
//
//   {"step", "epoch", "loss", "grad_norm", "learning_rate", "trained_tokens", "tokens", "tokens_per_second",
//    "memory_bytes", "seconds"}
//   {"step", "epoch", "set", "eval_loss", "eval_tokens", "eval_token_accuracy", "seconds"}
//
// Token counts are of the step; memory_bytes is StepMetrics::memory_bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/json.h"
#include "phi3tune/train/metrics.h"

namespace phi3tune::commands {

io::Json step_json(const train::StepMetrics& metrics);
io::Json evaluation_json(const train::EvalMetrics& metrics);

class RunLog final : public train::TrainObserver {
 public:
  // Keeps the first `keep` bytes of what is there: the lines after them are of steps that are made again. Throws
  // ResourceError.
  explicit RunLog(const std::string& path, uint64_t keep = 0);
  // A line that the disk refuses waits in memory for the next one; the first is said.
  void on_step(const train::StepMetrics& metrics) override { add(step_json(metrics).dump()); }
  void on_evaluation(const train::EvalMetrics& metrics) override { add(evaluation_json(metrics).dump()); }
  void on_finish(const train::TrainResult&) override { (void)sync(); }
  // Makes all lines durable and returns their bytes. Throws ResourceError.
  uint64_t sync();

 private:
  void add(std::string line);
  void write_waiting();

  io::LineWriter file_;
  std::vector<std::string> waiting_;
  bool warned_ = false;
};

}  // namespace phi3tune::commands
