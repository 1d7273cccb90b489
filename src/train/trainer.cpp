#include "phi3tune/train/trainer.h"

#include <chrono>
#include <cmath>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/train/memory.h"
#include "phi3tune/train/token_batch.h"
#include "train/sources.h"

namespace phi3tune::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::vector<data::Row> training_rows(const data::Dataset& dataset, const config::DataOptions& options) {
  auto rows = options.sample_packing ? data::pack_rows(dataset.train, options) : data::single_rows(dataset.train);
  if (rows.empty()) {
    throw DataError("there is no example to train on; see the report of the data");
  }
  return rows;
}

constexpr const char* kWayOut =
    "this step was not applied and no adapter is saved; a lower learning_rate, a longer warm-up or bf16: false are the "
    "usual ways out, and a look at "
    "these samples";

}  // namespace

Trainer::Trainer(Learner& learner, const data::Dataset& dataset, std::vector<EvaluationSet> evaluation_sets,
                 TrainerOptions options, TrainObserver& observer)
    : learner_(learner),
      dataset_(dataset),
      evaluation_sets_(std::move(evaluation_sets)),
      options_(std::move(options)),
      observer_(observer),
      rows_(training_rows(dataset, options_.data)),
      step_plan_(data::plan_steps(static_cast<int64_t>(rows_.size()), options_.schedule)),
      schedule_(options_.schedule, step_plan_.max_steps),
      evaluation_times_(options_.eval, step_plan_),
      optimizer_(learner.parameters(), learner.gradients(), options_.schedule) {
  run_plan_.rows = static_cast<int64_t>(rows_.size());
  run_plan_.batches_per_epoch = step_plan_.batches_per_epoch;
  run_plan_.updates_per_epoch = step_plan_.updates_per_epoch;
  run_plan_.max_steps = step_plan_.max_steps;
  run_plan_.warmup_steps = schedule_.warmup();
  run_plan_.parameters = learner_.parameters().numel();
  for (const EvaluationSet& set : evaluation_sets_) {
    run_plan_.evaluation_sets.push_back(set.name);
  }
}

TrainResult Trainer::run() {
  const Clock::time_point started = Clock::now();
  result_ = {};
  observer_.on_start(run_plan_);
  result_.status = train_epochs() ? TrainStatus::kFinished : TrainStatus::kStopped;
  result_.seconds = seconds_since(started);
  observer_.on_finish(result_);
  return result_;
}

bool Trainer::train_epochs() {
  if (options_.eval.eval_on_start && !evaluate_all(result_.first_evaluation)) {
    return false;
  }
  result_.last_evaluation = result_.first_evaluation;
  for (int64_t epoch = 0; epoch < step_plan_.num_epochs && result_.steps < step_plan_.max_steps; ++epoch) {
    const data::EpochPlan order = data::plan_epoch(rows_, dataset_.train, epoch, options_.schedule, options_.data);
    int64_t batches_done = 0;
    for (const Step& step : order) {
      if (result_.steps == step_plan_.max_steps) {
        break;
      }
      batches_done += static_cast<int64_t>(step.size());
      const double epochs_done = static_cast<double>(epoch) +
                                 static_cast<double>(batches_done) / static_cast<double>(step_plan_.batches_per_epoch);
      if (!train_step(step, epochs_done)) {
        return false;
      }
      const bool last = result_.steps == step_plan_.max_steps;
      if ((last || evaluation_times_.due(result_.steps)) && !evaluate_all(result_.last_evaluation)) {
        return false;
      }
    }
  }
  return true;
}

bool Trainer::train_step(const Step& step, double epochs_done) {
  const Clock::time_point started = Clock::now();
  const int64_t number = result_.steps + 1;
  std::vector<data::MicroBatch> batches;
  std::vector<int64_t> examples;
  double weight = 0.0;  // of the whole step
  for (const std::vector<int64_t>& rows : step) {
    std::vector<data::Row> picked;
    for (const int64_t row : rows) {
      picked.push_back(rows_[static_cast<size_t>(row)]);
    }
    batches.push_back(data::make_micro_batch(dataset_.train, picked));
    weight += batches.back().weight_sum();
    examples.insert(examples.end(), batches.back().examples.begin(), batches.back().examples.end());
  }
  if (!(weight > 0.0)) {
    throw DataError("step {}: none of its samples has a trained token: {}", number,
                    describe_sources(&dataset_, dataset_.train, examples));
  }

  learner_.zero_gradients();
  ops::LossSums sums;
  int64_t tokens = 0;
  for (size_t index = 0; index < batches.size(); ++index) {
    if (stop_requested()) {
      return false;
    }
    const data::MicroBatch& batch = batches[index];
    const ops::LossSums batch_sums = learner_.forward_backward(to_token_batch(batch, learner_.wide_dtype()),
                                                               1.0 / weight, static_cast<uint64_t>(result_.steps));
    if (!std::isfinite(batch_sums.weighted_loss)) {
      throw NumericsError("step {}: the loss of a micro-batch is {}, a finite number was expected; samples: {}; {}",
                          number, batch_sums.weighted_loss, describe_sources(&dataset_, dataset_.train, batch.examples),
                          kWayOut);
    }
    sums += batch_sums;
    tokens += static_cast<int64_t>(batch.input_ids.size());
    observer_.on_micro_batch(number, static_cast<int64_t>(index) + 1, static_cast<int64_t>(batches.size()));
  }

  StepMetrics metrics;
  metrics.grad_norm = optimizer_.gradient_norm();
  if (!std::isfinite(metrics.grad_norm)) {
    throw NumericsError("step {}: the norm of the gradients is {}, a finite number was expected; samples: {}; {}",
                        number, metrics.grad_norm, describe_sources(&dataset_, dataset_.train, examples), kWayOut);
  }
  metrics.learning_rate = schedule_.rate(result_.steps);
  optimizer_.update(metrics.learning_rate, clip_scale(metrics.grad_norm, options_.schedule.max_grad_norm));
  learner_.parameters_changed();

  metrics.step = number;
  metrics.epoch = epochs_done;
  metrics.loss = sums.weighted_loss / weight;
  metrics.trained_tokens = sums.targets;
  metrics.tokens = tokens;
  metrics.seconds = seconds_since(started);
  metrics.tokens_per_second = metrics.seconds > 0.0 ? static_cast<double>(tokens) / metrics.seconds : 0.0;
  metrics.memory_bytes = peak_resident_bytes();
  result_.steps = number;
  result_.epoch = epochs_done;
  result_.trained_tokens += metrics.trained_tokens;
  result_.tokens += tokens;
  result_.training_seconds += metrics.seconds;
  result_.last_loss = metrics.loss;
  observer_.on_step(metrics);
  return true;
}

bool Trainer::evaluate_all(std::vector<EvalMetrics>& results) {
  std::vector<EvalMetrics> taken;
  for (const EvaluationSet& set : evaluation_sets_) {
    auto metrics = evaluate(learner_, set, options_.schedule, options_.data, result_.steps, result_.epoch, observer_);
    if (!metrics) {
      return false;
    }
    observer_.on_evaluation(*metrics);
    taken.push_back(std::move(*metrics));
  }
  results = std::move(taken);
  return true;
}

}  // namespace phi3tune::train
