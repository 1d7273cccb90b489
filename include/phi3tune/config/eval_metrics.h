// What an evaluation measures, by name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace phi3tune::config {

// In the order of reports. The first three are of the trained tokens of every row, the others of answers.
enum class EvalMetric {
  kLoss,
  kPerplexity,
  kTokenAccuracy,
  kExactMatch,
  kF1,
  kRougeL,
  kBleu,
  kChrf,
  kLabelAccuracy,
};

const std::vector<EvalMetric>& all_eval_metrics();
std::string_view eval_metric_name(EvalMetric metric) noexcept;  // "token_accuracy"
inline bool is_of_answers(EvalMetric metric) noexcept { return metric >= EvalMetric::kExactMatch; }
std::optional<EvalMetric> find_eval_metric(std::string_view name) noexcept;
// "blue is no metric; did you mean bleu?", or which there are.
std::string eval_metric_refusal(std::string_view name);

// In the order of reports, each once; none named: all. Throws ConfigError: "<place>: ...".
std::vector<EvalMetric> eval_metrics_of(const std::vector<std::string>& names, std::string_view place);

}  // namespace phi3tune::config
