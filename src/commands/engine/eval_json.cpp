#include <algorithm>

#include "eval_report.h"

namespace phi3tune::commands {
namespace {

using config::EvalMetric;
using io::Json;

Json interval_json(const generate::Interval& interval) {
  return {{"value", interval.value}, {"low", interval.low}, {"high", interval.high}};
}

Json labels_json(const SetScores& set) {
  Json labels = Json::array();
  for (size_t i = 0; i < set.labels[kBase].labels.size(); ++i) {
    const auto& base = set.labels[kBase].labels[i];
    const auto& adapter = set.labels[kAdapter].labels[i];
    labels.push_back({{"label", base.label},
                      {"wanted", base.wanted},
                      {"base", {{"given", base.given}, {"right", base.right}}},
                      {"adapter", {{"given", adapter.given}, {"right", adapter.right}}}});
  }
  return labels;
}

Json side_json(const Evaluation& evaluation, const EvalRow& row, const SideResult& result) {
  Json json = Json::object();
  const auto asked = [&](EvalMetric metric) {
    return std::find(evaluation.metrics.begin(), evaluation.metrics.end(), metric) != evaluation.metrics.end();
  };
  if (asked(EvalMetric::kLoss) || asked(EvalMetric::kPerplexity) || asked(EvalMetric::kTokenAccuracy)) {
    json["loss"] = result.weighted_loss / row.weight;
    json["token_accuracy"] = static_cast<double>(result.correct) / static_cast<double>(row.targets);
  }
  if (row.answered) {
    json["answer"] = result.answer;
    json["cut"] = result.cut;
    for (const auto& [metric, value] : row_scores(evaluation, result)) {
      json[std::string(config::eval_metric_name(metric))] = value;
    }
  }
  return json;
}

}  // namespace

Json report_json(const Evaluation& evaluation) {
  Json json{{"base", evaluation.base}, {"adapter", evaluation.adapter}};
  auto& sets = json["sets"] = Json::array();
  for (const auto& set : evaluation.scores) {
    Json one{{"set", set.name}, {"rows", set.rows}, {"answered", set.answered}};
    if (set.answered > 0) {
      one["max_new_tokens"] = set.max_new_tokens;
    }
    auto& metrics = one["metrics"] = Json::object();
    for (const auto& score : set.scores) {
      metrics[std::string(config::eval_metric_name(score.metric))] = {{"base", interval_json(score.sides[kBase])},
                                                                      {"adapter", interval_json(score.sides[kAdapter])},
                                                                      {"difference", interval_json(score.difference)},
                                                                      {"verdict", verdict_text(score)}};
    }
    if (!set.labels[kBase].labels.empty()) {
      one["labels"] = labels_json(set);
      one["no_label"] = {{"base", set.labels[kBase].none}, {"adapter", set.labels[kAdapter].none}};
    }
    one["notes"] = set.notes;
    sets.push_back(std::move(one));
  }
  return json;
}

std::vector<std::pair<EvalMetric, double>> row_scores(const Evaluation& evaluation, const SideResult& result) {
  std::vector<std::pair<EvalMetric, double>> scores;
  for (const auto metric : evaluation.metrics) {
    switch (metric) {
      case EvalMetric::kExactMatch:
        scores.emplace_back(metric, result.exact_match);
        break;
      case EvalMetric::kF1:
        scores.emplace_back(metric, result.f1);
        break;
      case EvalMetric::kRougeL:
        scores.emplace_back(metric, result.rouge_l);
        break;
      case EvalMetric::kBleu:
        scores.emplace_back(metric, generate::sentence_bleu(result.bleu));
        break;
      case EvalMetric::kChrf:
        scores.emplace_back(metric, generate::chrf(result.chrf));
        break;
      default:
        break;
    }
  }
  return scores;
}

std::string row_lines(const Evaluation& evaluation) {
  std::string lines;
  for (const auto& set : evaluation.sets) {
    for (const auto& row : set.rows) {
      Json json{{"set", set.name}, {"source", row.place}, {"trained_tokens", row.targets}};
      if (row.answered) {
        json["prompt"] = row.question.text;
        json["reference"] = row.question.reference;
      }
      for (const Side side : {kBase, kAdapter}) {
        json[kSideNames[side]] = side_json(evaluation, row, row.sides[side]);
      }
      lines += json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    }
  }
  return lines;
}

}  // namespace phi3tune::commands
