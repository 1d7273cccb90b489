#include "phi3tune/config/eval_metrics.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::config {
namespace {

const std::vector<std::string_view> kNames{"loss",    "perplexity", "token_accuracy", "exact_match",   "f1",
                                           "rouge_l", "bleu",       "chrf",           "label_accuracy"};

}  // namespace

const std::vector<EvalMetric>& all_eval_metrics() {
  static const std::vector<EvalMetric> all = [] {
    std::vector<EvalMetric> metrics;
    for (size_t i = 0; i < kNames.size(); ++i) {
      metrics.push_back(static_cast<EvalMetric>(i));
    }
    return metrics;
  }();
  return all;
}

std::string_view eval_metric_name(EvalMetric metric) noexcept { return kNames[static_cast<size_t>(metric)]; }

std::optional<EvalMetric> find_eval_metric(std::string_view name) noexcept {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  return found == kNames.end() ? std::nullopt : std::optional(static_cast<EvalMetric>(found - kNames.begin()));
}

std::string eval_metric_refusal(std::string_view name) {
  const auto near = nearest_name(name, kNames);
  return near ? fmt::format("{} is no metric; did you mean {}?", name, *near)
              : fmt::format("{} is no metric; wanted {}", name, fmt::join(kNames, ", "));
}

std::vector<EvalMetric> eval_metrics_of(const std::vector<std::string>& names, std::string_view place) {
  if (names.empty()) {
    return all_eval_metrics();
  }
  std::vector<EvalMetric> metrics;
  for (const auto& name : names) {
    const auto metric = find_eval_metric(name);
    if (!metric) {
      throw ConfigError("{}: {}", place, eval_metric_refusal(name));
    }
    metrics.push_back(*metric);
  }
  std::sort(metrics.begin(), metrics.end());
  metrics.erase(std::unique(metrics.begin(), metrics.end()), metrics.end());
  return metrics;
}

}  // namespace phi3tune::config
