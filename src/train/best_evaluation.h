// Which evaluation is the best so far, by metric_for_best_model.
#pragma once

#include <string>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/train/evaluation.h"
#include "phi3tune/train/loop_state.h"
#include "phi3tune/train/metrics.h"

namespace phi3tune::train {

class BestMetric {
 public:
  // Throws ConfigError when there are sets and the metric names none of their figures.
  BestMetric(const config::EvalOptions& options, const std::vector<EvaluationSet>& sets);

  // Takes the newest evaluation, after at least one update, into best and stale_evaluations. True: it is the best.
  bool take(const std::vector<EvalMetrics>& newest, int64_t step, LoopState& state) const;
  // early_stopping_patience is used up.
  bool used_up(const LoopState& state) const noexcept;

 private:
  enum class Figure { kLoss, kPerplexity, kTokenAccuracy };
  double value_of(const EvalMetrics& metrics) const;

  size_t set_ = 0;
  Figure figure_ = Figure::kLoss;
  bool greater_ = false;
  double min_delta_;
  std::optional<int64_t> patience_;
};

}  // namespace phi3tune::train
