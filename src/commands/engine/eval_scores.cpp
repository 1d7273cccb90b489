#include "eval_scores.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>

namespace phi3tune::commands {
namespace {

using config::EvalMetric;
using Rows = std::vector<const EvalRow*>;
using Indices = std::span<const size_t>;

template <typename Value, typename Weight>
double mean(const Rows& rows, Indices indices, Value value, Weight weight) {
  double sum = 0.0;
  double total = 0.0;
  for (const size_t index : indices) {
    sum += static_cast<double>(value(*rows[index]));
    total += static_cast<double>(weight(*rows[index]));
  }
  return sum / total;
}

double score_of(EvalMetric metric, const Rows& rows, Side side, Indices indices) {
  const auto each = [&](auto SideResult::*member) {
    return mean(
        rows, indices, [&](const EvalRow& row) { return row.sides[side].*member; }, [](const EvalRow&) { return 1.0; });
  };
  const auto loss = [&] {
    return mean(
        rows, indices, [&](const EvalRow& row) { return row.sides[side].weighted_loss; },
        [](const EvalRow& row) { return row.weight; });
  };
  switch (metric) {
    case EvalMetric::kLoss:
      return loss();
    case EvalMetric::kPerplexity:
      return std::exp(loss());
    case EvalMetric::kTokenAccuracy:
      return mean(
          rows, indices, [&](const EvalRow& row) { return row.sides[side].correct; },
          [](const EvalRow& row) { return row.targets; });
    case EvalMetric::kExactMatch:
      return each(&SideResult::exact_match);
    case EvalMetric::kF1:
      return each(&SideResult::f1);
    case EvalMetric::kRougeL:
      return each(&SideResult::rouge_l);
    case EvalMetric::kBleu: {
      generate::BleuCounts sum;
      for (const size_t index : indices) {
        sum += rows[index]->sides[side].bleu;
      }
      return generate::bleu(sum);
    }
    case EvalMetric::kChrf: {
      generate::ChrfCounts sum;
      for (const size_t index : indices) {
        sum += rows[index]->sides[side].chrf;
      }
      return generate::chrf(sum);
    }
    case EvalMetric::kLabelAccuracy:
      return each(&SideResult::right_label);
  }
  return 0.0;
}

EvalScore score_metric(EvalMetric metric, const Rows& rows, uint64_t seed) {
  EvalScore score;
  score.metric = metric;
  score.rows = rows.size();
  for (const Side side : {kBase, kAdapter}) {
    score.sides[side] = generate::bootstrap(
        rows.size(), [&](Indices indices) { return score_of(metric, rows, side, indices); }, seed);
  }
  score.difference = generate::bootstrap(
      rows.size(),
      [&](Indices indices) {
        return score_of(metric, rows, kAdapter, indices) - score_of(metric, rows, kBase, indices);
      },
      seed);
  return score;
}

void count_labels(const EvalSet& set, const Rows& answered, SetScores& scores) {
  std::vector<std::string> references;
  for (const auto* row : answered) {
    references.push_back(row->question.reference);
  }
  for (const Side side : {kBase, kAdapter}) {
    std::vector<std::string> answers;
    for (const auto* row : answered) {
      answers.push_back(row->sides[side].answer);
    }
    scores.labels[side] = generate::count_labels(set.labels, answers, references);
  }
}

std::string names_of(const std::vector<EvalMetric>& metrics) {
  std::vector<std::string_view> names;
  for (const auto metric : metrics) {
    names.push_back(config::eval_metric_name(metric));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

// What the set has nothing for, and why.
void note_left_out(const EvalSet& set, const std::vector<EvalMetric>& left_out, SetScores& scores) {
  if (left_out.empty()) {
    return;
  }
  std::string reason = "no row was to be answered (--samples 0)";
  if (set.asking == 0) {
    reason = "its records are plain text, which asks nothing";
  } else if (set.too_long == set.asking) {
    reason = "its prompts leave the model no position for an answer";
  }
  scores.notes.push_back(fmt::format("left out: {}: {}", names_of(left_out), reason));
}

}  // namespace

int verdict_of(const EvalScore& score) {
  if (score.rows < kFewestRows) {
    return 0;
  }
  const bool less_is_better = score.metric == EvalMetric::kLoss || score.metric == EvalMetric::kPerplexity;
  const int sign = score.difference.low > 0.0 ? 1 : score.difference.high < 0.0 ? -1 : 0;
  return less_is_better ? -sign : sign;
}

SetScores score_set(const EvalSet& set, const std::vector<EvalMetric>& metrics, uint64_t seed) {
  SetScores scores;
  scores.name = set.name;
  scores.rows = set.rows.size();
  scores.max_new_tokens = set.max_new_tokens;
  Rows all;
  Rows answered;
  for (const auto& row : set.rows) {
    all.push_back(&row);
    if (row.answered) {
      answered.push_back(&row);
    }
  }
  scores.answered = answered.size();
  std::vector<EvalMetric> left_out;
  for (const auto metric : metrics) {
    if (!config::is_of_answers(metric)) {
      scores.scores.push_back(score_metric(metric, all, seed));
    } else if (answered.empty()) {
      left_out.push_back(metric);
    } else if (metric != EvalMetric::kLabelAccuracy) {
      scores.scores.push_back(score_metric(metric, answered, seed));
    } else if (set.labels.empty()) {
      scores.notes.push_back(fmt::format("left out: label_accuracy: {}", set.no_labels));
    } else {
      scores.scores.push_back(score_metric(metric, answered, seed));
      count_labels(set, answered, scores);
    }
  }
  note_left_out(set, left_out, scores);
  const auto note = [&](int64_t count, const char* what) {
    if (count > 0 && !answered.empty()) {
      scores.notes.push_back(fmt::format("{} rows {}", count, what));
    }
  };
  note(set.without_question, "ask nothing (plain text): only their loss counts");
  note(set.too_long, "are not answered: their prompt leaves the model no position");
  return scores;
}

}  // namespace phi3tune::commands
