#include "phi3tune/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "phi3tune/core/error.h"

namespace phi3tune::train {

int64_t warmup_steps(const config::ScheduleOptions& options, int64_t total_steps) {
  if (options.scheduler == config::Scheduler::kConstant) {
    return 0;
  }
  if (options.warmup_steps) {
    return *options.warmup_steps;
  }
  return static_cast<int64_t>(std::ceil(static_cast<double>(total_steps) * options.warmup_ratio));
}

LearningRateSchedule::LearningRateSchedule(const config::ScheduleOptions& options, int64_t total_steps)
    : kind_(options.scheduler),
      base_rate_(options.learning_rate),
      min_ratio_(options.cosine_min_lr_ratio),
      warmup_(warmup_steps(options, total_steps)),
      total_(total_steps) {
  if (min_ratio_ != 0.0 && kind_ != config::Scheduler::kCosine) {
    throw ConfigError("cosine_min_lr_ratio is {}, but only lr_scheduler: cosine has a minimum; remove one of the two",
                      min_ratio_);
  }
  if (kind_ == config::Scheduler::kConstant && options.warmup_steps.value_or(0) != 0) {
    throw ConfigError(
        "warmup_steps is {}, but lr_scheduler: constant has no warm-up; use lr_scheduler: constant_with_warmup",
        *options.warmup_steps);
  }
}

double LearningRateSchedule::multiplier(int64_t completed) const noexcept {
  if (completed < warmup_) {
    return static_cast<double>(completed) / static_cast<double>(std::max<int64_t>(1, warmup_));
  }
  const auto decay_steps = static_cast<double>(std::max<int64_t>(1, total_ - warmup_));
  switch (kind_) {
    case config::Scheduler::kLinear:
      return std::max(0.0, static_cast<double>(total_ - completed) / decay_steps);
    case config::Scheduler::kCosine: {
      const double progress = static_cast<double>(completed - warmup_) / decay_steps;
      const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
      return std::max(0.0, cosine * (1.0 - min_ratio_) + min_ratio_);
    }
    case config::Scheduler::kConstant:
    case config::Scheduler::kConstantWithWarmup:
      break;
  }
  return 1.0;
}

}  // namespace phi3tune::train
