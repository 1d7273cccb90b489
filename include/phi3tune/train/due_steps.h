// After which steps of a run something is done: an evaluation, a checkpoint.
#pragma once

#include <cstdint>
#include <optional>

#include "phi3tune/data/batching.h"

namespace phi3tune::train {

// per_epoch: that many in each epoch, evenly, the last at its end (as many as there are updates, at most). Else steps:
// >= 1: every so many updates; < 1: every ceil(share of all updates). Neither: never.
class DueSteps {
 public:
  DueSteps(std::optional<double> steps, std::optional<int64_t> per_epoch, const data::StepPlan& plan);
  // After `completed` updates.
  bool due(int64_t completed) const noexcept;

 private:
  int64_t every_ = 0;
  int64_t per_epoch_ = 0;
  int64_t updates_per_epoch_ = 0;
};

}  // namespace phi3tune::train
