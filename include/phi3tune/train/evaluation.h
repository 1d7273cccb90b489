// The loss over a set of examples, and when a run takes it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "phi3tune/config/options.h"
#include "phi3tune/data/batching.h"
#include "phi3tune/data/dataset.h"
#include "phi3tune/train/learner.h"
#include "phi3tune/train/metrics.h"

namespace phi3tune::train {

struct EvaluationSet {
  std::string name;
  std::span<const data::Example> examples;
  const data::Dataset* dataset = nullptr;  // that the examples' sources belong to
};

// Batches that a set is taken in.
int64_t evaluation_batches(const EvaluationSet& set, const config::ScheduleOptions& schedule,
                           const config::DataOptions& data);

// Mean over all trained tokens, in order, without dropout; nullopt when the stop flag was seen (polled per batch).
// sums: zeroed float64 [at least that many batches, 2] in the back end's memory. `step` and `epoch` are only carried
// into the result. Throws NumericsError naming the set and the sources of the first batch whose loss is not finite.
std::optional<EvalMetrics> evaluate(Learner& learner, const EvaluationSet& set, const config::ScheduleOptions& schedule,
                                    const config::DataOptions& data, int64_t step, double epoch, const at::Tensor& sums,
                                    TrainObserver& observer);

}  // namespace phi3tune::train
