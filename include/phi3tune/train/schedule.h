// The learning rate of every update, in fp64, as transformers' schedules give it.
//
// k is the number of completed updates, w the warm-up updates, T all updates. The multiplier of the base rate is
// k / max(1, w) for k < w (constant: 1), and from there on, with p = (k - w) / max(1, T - w):
//
//   constant, constant_with_warmup   1
//   linear                           max(0, (T - k) / max(1, T - w))
//   cosine                           max(0, 0.5 (1 + cos(pi p)) (1 - r) + r), r = cosine_min_lr_ratio
//
// Update number t (from 1) uses k = t - 1: with warm-up the first update has a rate of 0.
#pragma once

#include <cstdint>

#include "phi3tune/config/options.h"

namespace phi3tune::train {

// warmup_steps if given, else ceil(total_steps * warmup_ratio); 0 for a constant schedule.
int64_t warmup_steps(const config::ScheduleOptions& options, int64_t total_steps);

class LearningRateSchedule {
 public:
  // Throws ConfigError for a setting that the chosen schedule would ignore: a minimum for anything but cosine,
  // warmup_steps for constant.
  LearningRateSchedule(const config::ScheduleOptions& options, int64_t total_steps);

  double multiplier(int64_t completed) const noexcept;
  double rate(int64_t completed) const noexcept { return base_rate_ * multiplier(completed); }
  int64_t warmup() const noexcept { return warmup_; }

 private:
  config::Scheduler kind_;
  double base_rate_;
  double min_ratio_;
  int64_t warmup_;
  int64_t total_;
};

}  // namespace phi3tune::train
