#include "phi3tune/train/evaluation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/train/token_batch.h"
#include "train/sources.h"

namespace phi3tune::train {

std::optional<EvalMetrics> evaluate(Learner& learner, const EvaluationSet& set, const config::ScheduleOptions& schedule,
                                    const config::DataOptions& data, int64_t step, double epoch,
                                    TrainObserver& observer) {
  const auto started = std::chrono::steady_clock::now();
  const std::vector<data::Row> rows =
      data.eval_sample_packing ? data::pack_rows(set.examples, data) : data::single_rows(set.examples);
  const auto size = static_cast<size_t>(
      std::max<int64_t>(1, schedule.eval_batch_size > 0 ? schedule.eval_batch_size : schedule.micro_batch_size));
  const auto batches = static_cast<int64_t>((rows.size() + size - 1) / size);
  ops::LossSums sums;
  for (int64_t index = 0; index < batches; ++index) {
    if (stop_requested()) {
      return std::nullopt;
    }
    const size_t begin = static_cast<size_t>(index) * size;
    const std::span<const data::Row> group = std::span(rows).subspan(begin, std::min(size, rows.size() - begin));
    const data::MicroBatch batch = data::make_micro_batch(set.examples, group);
    const ops::LossSums batch_sums = learner.evaluate(to_token_batch(batch, learner.wide_dtype()));
    if (!std::isfinite(batch_sums.weighted_loss)) {
      throw NumericsError("evaluation of {} after {} steps: the loss is {}, a finite number was expected; samples: {}",
                          set.name, step, batch_sums.weighted_loss,
                          describe_sources(set.dataset, set.examples, batch.examples));
    }
    sums += batch_sums;
    observer.on_evaluation_batch(set.name, index + 1, batches);
  }
  if (!(sums.weight > 0.0)) {
    throw DataError("evaluation of {}: none of its {} examples has a trained token, so there is no loss to take",
                    set.name, set.examples.size());
  }
  EvalMetrics metrics;
  metrics.name = set.name;
  metrics.step = step;
  metrics.epoch = epoch;
  metrics.eval_loss = sums.weighted_loss / sums.weight;
  metrics.eval_tokens = sums.targets;
  metrics.token_accuracy = static_cast<double>(sums.correct) / static_cast<double>(sums.targets);
  metrics.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return metrics;
}

EvaluationTimes::EvaluationTimes(const config::EvalOptions& options, const data::StepPlan& plan)
    : updates_per_epoch_(plan.updates_per_epoch) {
  if (options.eval_steps) {
    const double steps = *options.eval_steps;
    every_ = static_cast<int64_t>(steps >= 1.0 ? steps : std::ceil(static_cast<double>(plan.max_steps) * steps));
    every_ = std::max<int64_t>(1, every_);
  } else {
    per_epoch_ = options.evals_per_epoch.value_or(0);
  }
}

bool EvaluationTimes::due(int64_t completed) const noexcept {
  if (completed <= 0) {
    return false;
  }
  if (every_ > 0) {
    return completed % every_ == 0;
  }
  if (per_epoch_ <= 0 || updates_per_epoch_ <= 0) {
    return false;
  }
  // The place in its epoch, from 1: an evaluation falls due wherever the count of those owed goes up.
  const int64_t place = (completed - 1) % updates_per_epoch_ + 1;
  return place * per_epoch_ / updates_per_epoch_ > (place - 1) * per_epoch_ / updates_per_epoch_;
}

}  // namespace phi3tune::train
