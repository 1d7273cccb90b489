#include "train/best_evaluation.h"

#include "phi3tune/core/error.h"

namespace phi3tune::train {

BestMetric::BestMetric(const config::EvalOptions& options, const std::vector<EvaluationSet>& sets)
    : min_delta_(options.early_stopping_min_delta), patience_(options.early_stopping_patience) {
  static constexpr std::pair<const char*, Figure> kFigures[]{
      {"loss", Figure::kLoss}, {"perplexity", Figure::kPerplexity}, {"token_accuracy", Figure::kTokenAccuracy}};
  const std::string& wanted = options.metric_for_best_model;
  bool known = sets.empty();
  std::string names;
  for (const auto& [name, figure] : kFigures) {
    for (size_t set = 0; set <= sets.size() && !known; ++set) {
      const std::string full = set == 0 ? std::string("eval_") + name : "eval_" + sets[set - 1].name + "_" + name;
      names += (names.empty() ? "" : ", ") + full;
      // transformers takes the name without its prefix too.
      if (wanted == full || "eval_" + wanted == full) {
        known = true;
        set_ = set == 0 ? 0 : set - 1;
        figure_ = figure;
      }
    }
  }
  if (!known) {
    throw ConfigError("metric_for_best_model: found '{}'; wanted one of {}", wanted, names);
  }
  greater_ = options.greater_is_better.value_or(figure_ == Figure::kTokenAccuracy);
}

double BestMetric::value_of(const EvalMetrics& metrics) const {
  switch (figure_) {
    case Figure::kLoss:
    case Figure::kPerplexity:  // rises with the loss, and overflows where that does not
      return metrics.eval_loss;
    case Figure::kTokenAccuracy:
      break;
  }
  return metrics.token_accuracy;
}

bool BestMetric::take(const std::vector<EvalMetrics>& newest, int64_t step, LoopState& state) const {
  const double value = value_of(newest.at(set_));
  const double gain = !state.best ? 0.0 : greater_ ? value - state.best->value : state.best->value - value;
  state.stale_evaluations = !state.best || gain > min_delta_ ? 0 : state.stale_evaluations + 1;
  if (state.best && !(gain > 0.0)) {
    return false;
  }
  state.best = {step, value};
  return true;
}

bool BestMetric::used_up(const LoopState& state) const noexcept {
  return patience_ && state.stale_evaluations >= *patience_;
}

}  // namespace phi3tune::train
