#include "phi3tune/train/due_steps.h"

#include <algorithm>
#include <cmath>

namespace phi3tune::train {

DueSteps::DueSteps(std::optional<double> steps, std::optional<int64_t> per_epoch, const data::StepPlan& plan)
    : updates_per_epoch_(plan.updates_per_epoch) {
  if (per_epoch) {
    per_epoch_ = *per_epoch;
  } else if (steps) {
    every_ = static_cast<int64_t>(*steps >= 1.0 ? *steps : std::ceil(static_cast<double>(plan.max_steps) * *steps));
    every_ = std::max<int64_t>(1, every_);
  }
}

bool DueSteps::due(int64_t completed) const noexcept {
  if (completed <= 0) {
    return false;
  }
  if (every_ > 0) {
    return completed % every_ == 0;
  }
  if (per_epoch_ <= 0 || updates_per_epoch_ <= 0) {
    return false;
  }
  // The place in its epoch, from 1: it falls due wherever the count of those owed goes up.
  const int64_t place = (completed - 1) % updates_per_epoch_ + 1;
  return place * per_epoch_ / updates_per_epoch_ > (place - 1) * per_epoch_ / updates_per_epoch_;
}

}  // namespace phi3tune::train
