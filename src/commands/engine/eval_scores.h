// The scores of a set: base, adapter, and the difference, each with its bootstrap interval.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "eval_rows.h"
#include "phi3tune/config/eval_metrics.h"
#include "phi3tune/generate/answer_metrics.h"
#include "phi3tune/generate/labels.h"

namespace phi3tune::commands {

struct EvalScore {
  config::EvalMetric metric = config::EvalMetric::kLoss;
  size_t rows = 0;
  std::array<generate::Interval, kSides> sides;
  generate::Interval difference;  // adapter - base, of the same rows
};

// Resamples of fewer are too much alike: their interval is too narrow to go by.
inline constexpr size_t kFewestRows = 10;
// 1 better, -1 worse, 0: the interval of the difference holds 0, or the rows are too few.
int verdict_of(const EvalScore& score);

struct SetScores {
  std::string name;
  size_t rows = 0;
  size_t answered = 0;
  int64_t max_new_tokens = 0;
  std::vector<EvalScore> scores;
  std::array<generate::LabelCounts, kSides> labels;  // where there are some and they were asked for
  std::vector<std::string> notes;                    // what was left out, and why
};

// Those of `metrics` that the set has something for. Draws depend on `seed`.
SetScores score_set(const EvalSet& set, const std::vector<config::EvalMetric>& metrics, uint64_t seed);

}  // namespace phi3tune::commands
