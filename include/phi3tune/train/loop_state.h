// What the loop must remember to go on with the same bits, beside the parameters and the optimizer's moments.
//
// The order of the data, the dropout and the learning rate are functions of the settings and the step, so there is no
// generator's state among it.
#pragma once

#include <cstdint>
#include <optional>

#include "phi3tune/train/metrics.h"
#include "phi3tune/train/optimizer.h"

namespace phi3tune::train {

struct BestEvaluation {
  int64_t step = 0;
  double value = 0.0;
};

struct LoopState {
  TrainResult result;         // so far; `status` means nothing here
  int64_t evaluated_at = -1;  // steps made before the newest evaluation; -1: none was
  std::optional<BestEvaluation> best;
  int64_t stale_evaluations = 0;  // in a row, none better than the best by more than early_stopping_min_delta
  int64_t steps_above = 0;        // in a row, with a loss above loss_watchdog_threshold
};

// Keeps what it is given. Called between steps, when every number of the steps so far was looked at and is finite, and
// once a step at the most. What it throws ends the run.
class TrainSaver {
 public:
  virtual ~TrainSaver() = default;
  virtual SaveMetrics save(const LoopState& state, const AdamWState& optimizer, SaveReason reason) = 0;
};

}  // namespace phi3tune::train
