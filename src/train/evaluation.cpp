#include "phi3tune/train/evaluation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/train/token_batch.h"
#include "train/sources.h"

namespace phi3tune::train {

namespace {

std::vector<data::Row> rows_of(const EvaluationSet& set, const config::DataOptions& data) {
  return data.eval_sample_packing ? data::pack_rows(set.examples, data) : data::single_rows(set.examples);
}

size_t batch_size(const config::ScheduleOptions& schedule) {
  return static_cast<size_t>(
      std::max<int64_t>(1, schedule.eval_batch_size > 0 ? schedule.eval_batch_size : schedule.micro_batch_size));
}

}  // namespace

int64_t evaluation_batches(const EvaluationSet& set, const config::ScheduleOptions& schedule,
                           const config::DataOptions& data) {
  const size_t size = batch_size(schedule);
  return static_cast<int64_t>((rows_of(set, data).size() + size - 1) / size);
}

std::optional<EvalMetrics> evaluate(Learner& learner, const EvaluationSet& set, const config::ScheduleOptions& schedule,
                                    const config::DataOptions& data, int64_t step, double epoch, const at::Tensor& sums,
                                    TrainObserver& observer) {
  const auto started = std::chrono::steady_clock::now();
  const std::vector<data::Row> rows = rows_of(set, data);
  const size_t size = batch_size(schedule);
  const auto batches = static_cast<int64_t>((rows.size() + size - 1) / size);
  const auto batch_at = [&](int64_t index) {
    const size_t begin = static_cast<size_t>(index) * size;
    return data::make_micro_batch(set.examples, std::span(rows).subspan(begin, std::min(size, rows.size() - begin)));
  };
  double weight = 0.0;
  int64_t targets = 0;
  for (int64_t index = 0; index < batches; ++index) {
    if (stop_requested()) {
      return std::nullopt;
    }
    const data::MicroBatch batch = batch_at(index);
    learner.evaluate(to_token_batch(batch, learner.wide_dtype()), sums.select(0, index));
    weight += batch.weight_sum();
    targets += static_cast<int64_t>(batch.targets.size());
    observer.on_evaluation_batch(set.name, index + 1, batches);
  }
  std::vector<double> found(static_cast<size_t>(2 * batches));
  ops::backend().memory.download(found.data(), sums.narrow(0, 0, batches));
  double loss = 0.0;
  double correct = 0.0;
  for (int64_t index = 0; index < batches; ++index) {
    const double batch_loss = found[static_cast<size_t>(2 * index)];
    if (!std::isfinite(batch_loss)) {
      throw NumericsError("evaluation of {} after {} steps: the loss is {}, a finite number was expected; samples: {}",
                          set.name, step, batch_loss,
                          describe_sources(set.dataset, set.examples, batch_at(index).examples));
    }
    loss += batch_loss;
    correct += found[static_cast<size_t>(2 * index + 1)];
  }
  if (!(weight > 0.0)) {
    throw DataError("evaluation of {}: none of its {} examples has a trained token, so there is no loss to take",
                    set.name, set.examples.size());
  }
  EvalMetrics metrics;
  metrics.name = set.name;
  metrics.step = step;
  metrics.epoch = epoch;
  metrics.eval_loss = loss / weight;
  metrics.eval_tokens = targets;
  metrics.token_accuracy = correct / static_cast<double>(targets);
  metrics.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return metrics;
}

}  // namespace phi3tune::train
