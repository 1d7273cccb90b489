#include "phi3tune/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/train/memory.h"
#include "phi3tune/train/token_batch.h"
#include "train/best_evaluation.h"
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

std::vector<int64_t> all_of(const std::vector<std::vector<int64_t>>& examples) {
  std::vector<int64_t> all;
  for (const auto& of_batch : examples) {
    all.insert(all.end(), of_batch.begin(), of_batch.end());
  }
  return all;
}

constexpr const char* kWayOut =
    "this step was not applied and is in no checkpoint; a lower learning_rate, a longer warm-up or bf16: false are the "
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
      evaluation_steps_(options_.eval.eval_steps, options_.eval.evals_per_epoch, step_plan_),
      save_steps_(options_.save.save_steps, options_.save.saves_per_epoch, step_plan_),
      best_metric_(std::make_unique<BestMetric>(options_.eval, evaluation_sets_)),
      ring_(learner.arena(), plan::ring_steps(options_.logging_steps, ops::backend().asynchronous),
            options_.schedule.gradient_accumulation_steps, most_evaluation_batches(evaluation_sets_, options_),
            learner.parameters().numel()),
      optimizer_(learner.parameters(), learner.gradients(), learner.compute_copy(), options_.schedule, learner.arena(),
                 learner.rates(options_.schedule.loraplus_lr_ratio.value_or(1.0))) {
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

Trainer::~Trainer() = default;

void Trainer::resume(const LoopState& state, int64_t optimizer_updates, bool kept_here) {
  require(optimizer_updates == state.result.steps, "the optimizer made an update a step");
  state_ = state;
  optimizer_.resume(optimizer_updates);
  saved_at_ = kept_here ? state.result.steps : 0;
  run_plan_.steps_before = state.result.steps;
  learner_.parameters_changed();
}

TrainResult Trainer::run(TrainSaver* saver) {
  saver_ = saver;
  started_ = Clock::now();
  seconds_before_ = state_.result.seconds;
  observer_.on_start(run_plan_);
  const bool finished = train_all();
  read_pending();
  TrainResult& result = state_.result;
  result.status = finished ? TrainStatus::kFinished : TrainStatus::kStopped;
  result.seconds = seconds_before_ + seconds_since(started_);
  if (!finished && options_.save.save_on_signal) {
    save(SaveReason::kStopped);
  }
  observer_.on_finish(result);
  return result;
}

int64_t Trainer::planned_saves() const {
  int64_t count = 1;
  for (int64_t step = 1; step < step_plan_.max_steps; ++step) {
    count += save_steps_.due(step) ? 1 : 0;
  }
  return count;
}

bool Trainer::at_end() const noexcept {
  return state_.result.ended_early || state_.result.steps >= step_plan_.max_steps;
}

bool Trainer::train_all() {
  TrainResult& result = state_.result;
  if (result.steps == 0) {
    if (options_.eval.eval_on_start && !evaluate_all(result.first_evaluation)) {
      return false;
    }
    result.last_evaluation = result.first_evaluation;
  } else if (!after_step()) {  // what came after the step of the checkpoint may be missing
    return false;
  }
  while (!at_end()) {
    if (!train_epoch(result.steps / step_plan_.updates_per_epoch)) {
      return false;
    }
  }
  return true;
}

// From the first step of the epoch that was not made yet.
bool Trainer::train_epoch(int64_t epoch) {
  const data::EpochPlan order = data::plan_epoch(rows_, dataset_.train, epoch, options_.schedule, options_.data);
  const int64_t done = state_.result.steps - epoch * step_plan_.updates_per_epoch;
  int64_t batches_done = 0;
  for (size_t index = 0; index < order.size() && !at_end(); ++index) {
    batches_done += static_cast<int64_t>(order[index].size());
    if (static_cast<int64_t>(index) < done) {
      continue;
    }
    const double epochs_done = static_cast<double>(epoch) +
                               static_cast<double>(batches_done) / static_cast<double>(step_plan_.batches_per_epoch);
    if (!train_step(order[index], epochs_done) || !after_step()) {
      return false;
    }
  }
  return true;
}

// The evaluation that falls due at this step, then the checkpoint.
bool Trainer::after_step() {
  TrainResult& result = state_.result;
  if ((at_end() || evaluation_steps_.due(result.steps)) && state_.evaluated_at < result.steps) {
    if (!evaluate_all(result.last_evaluation)) {
      return false;
    }
    if (!result.last_evaluation.empty()) {
      is_best_ = best_metric_->take(result.last_evaluation, result.steps, state_);
      result.ended_early = best_metric_->used_up(state_) && result.steps < step_plan_.max_steps;
    }
  }
  const bool asked = take_save_request();
  if (at_end()) {
    save(SaveReason::kEnd);
  } else if (save_steps_.due(result.steps)) {
    save(SaveReason::kDue);
  } else if (is_best_ && options_.save.save_best) {
    save(SaveReason::kBest);
  } else if (asked) {
    save(SaveReason::kAsked);
  }
  is_best_ = false;
  return true;
}

// The checkpoint of a step is the same whenever it is written, but for an evaluation that a resumed run makes again: so
// there is one a step.
void Trainer::save(SaveReason reason) {
  if (saver_ == nullptr || state_.result.steps == saved_at_) {
    return;
  }
  read_pending();
  state_.result.seconds = seconds_before_ + seconds_since(started_);
  observer_.on_save(saver_->save(state_, optimizer_.state(), reason));
  saved_at_ = state_.result.steps;
}

// A device's fault is met in some step: it is said in which.
bool Trainer::train_step(const Step& step, double epochs_done) {
  try {
    return enqueue_step(step, epochs_done);
  } catch (const ResourceError& fault) {
    throw ResourceError("step {}: {}", state_.result.steps + 1, fault.what());
  }
}

bool Trainer::enqueue_step(const Step& step, double epochs_done) {
  if (pending_.empty()) {
    pending_since_ = Clock::now();
  }
  const auto place = static_cast<int64_t>(pending_.size());
  Pending pending;
  StepMetrics& metrics = pending.metrics;
  metrics.step = state_.result.steps + 1;
  std::vector<data::MicroBatch> batches;
  for (const std::vector<int64_t>& rows : step) {
    std::vector<data::Row> picked;
    for (const int64_t row : rows) {
      picked.push_back(rows_[static_cast<size_t>(row)]);
    }
    batches.push_back(data::make_micro_batch(dataset_.train, picked));
    pending.weight += batches.back().weight_sum();
    pending.examples.push_back(batches.back().examples);
  }
  if (!(pending.weight > 0.0)) {
    throw DataError("step {}: none of its samples has a trained token: {}", metrics.step,
                    describe_sources(&dataset_, dataset_.train, all_of(pending.examples)));
  }

  learner_.zero_gradients();
  ring_.clear(place);
  for (size_t index = 0; index < batches.size(); ++index) {
    if (stop_requested()) {
      return false;
    }
    const data::MicroBatch& batch = batches[index];
    learner_.forward_backward(to_token_batch(batch, learner_.wide_dtype()), 1.0 / pending.weight,
                              static_cast<uint64_t>(state_.result.steps),
                              ring_.losses(place, static_cast<int64_t>(index)));
    metrics.trained_tokens += static_cast<int64_t>(batch.targets.size());
    metrics.tokens += static_cast<int64_t>(batch.input_ids.size());
    observer_.on_micro_batch(metrics.step, static_cast<int64_t>(index) + 1, static_cast<int64_t>(batches.size()));
  }
  ops::step_norm(ring_.control(), ring_.norm(place), ring_.losses(place), ring_.partials(), learner_.gradients(),
                 options_.schedule.max_grad_norm);
  metrics.learning_rate = schedule_.rate(state_.result.steps);
  optimizer_.update(metrics.learning_rate, ring_.control());
  metrics.epoch = epochs_done;
  state_.result.steps = metrics.step;
  state_.result.epoch = epochs_done;
  pending_.push_back(std::move(pending));
  if (static_cast<int64_t>(pending_.size()) == ring_.steps()) {
    read_pending();
  }
  learner_.parameters_changed();
  return true;
}

void Trainer::check_finite(const Pending& step, const StepRing::Numbers& numbers) const {
  for (size_t index = 0; index < step.examples.size(); ++index) {
    if (!std::isfinite(numbers.losses[index])) {
      throw NumericsError("step {}: the loss of a micro-batch is {}, a finite number was expected; samples: {}; {}",
                          step.metrics.step, numbers.losses[index],
                          describe_sources(&dataset_, dataset_.train, step.examples[index]), kWayOut);
    }
  }
  if (!std::isfinite(numbers.norm)) {
    throw NumericsError("step {}: the norm of the gradients is {}, a finite number was expected; samples: {}; {}",
                        step.metrics.step, numbers.norm,
                        describe_sources(&dataset_, dataset_.train, all_of(step.examples)), kWayOut);
  }
}

void Trainer::watch_loss(const Pending& step, double loss) {
  const auto& eval = options_.eval;
  if (!eval.loss_watchdog_threshold) {
    return;
  }
  state_.steps_above = loss > *eval.loss_watchdog_threshold ? state_.steps_above + 1 : 0;
  if (state_.steps_above >= eval.loss_watchdog_patience) {
    throw NumericsError(
        "step {}: the loss is {} and was above loss_watchdog_threshold ({}) for {} steps in a row; samples: {}; a "
        "lower "
        "learning_rate or a longer warm-up are the usual ways out",
        step.metrics.step, loss, *eval.loss_watchdog_threshold, state_.steps_above,
        describe_sources(&dataset_, dataset_.train, all_of(step.examples)));
  }
}

uint64_t Trainer::memory_bytes() const {
  const auto& backend = ops::backend();
  return backend.asynchronous ? learner_.arena().high_water() + backend.memory.library_bytes() : peak_resident_bytes();
}

void Trainer::read_pending() {
  if (pending_.empty()) {
    return;
  }
  const auto numbers = ring_.read(static_cast<int64_t>(pending_.size()));
  const double seconds = seconds_since(pending_since_) / static_cast<double>(pending_.size());
  const std::vector<Pending> steps = std::exchange(pending_, {});
  for (size_t i = 0; i < steps.size(); ++i) {
    try {
      check_finite(steps[i], numbers[i]);
    } catch (const NumericsError&) {
      // The back end made no update from this step on.
      const auto missing = static_cast<int64_t>(steps.size() - i);
      optimizer_.forget_updates(missing);
      state_.result.steps -= missing;
      throw;
    }
    StepMetrics metrics = steps[i].metrics;
    metrics.loss = std::accumulate(numbers[i].losses.begin(), numbers[i].losses.end(), 0.0) / steps[i].weight;
    metrics.grad_norm = numbers[i].norm;
    metrics.seconds = seconds;
    metrics.tokens_per_second = seconds > 0.0 ? static_cast<double>(metrics.tokens) / seconds : 0.0;
    metrics.memory_bytes = memory_bytes();
    state_.result.trained_tokens += metrics.trained_tokens;
    state_.result.tokens += metrics.tokens;
    state_.result.training_seconds += seconds;
    state_.result.last_loss = metrics.loss;
    observer_.on_step(metrics);
    watch_loss(steps[i], metrics.loss);
  }
}

bool Trainer::evaluate_all(std::vector<EvalMetrics>& results) {
  read_pending();
  std::vector<EvalMetrics> taken;
  for (const EvaluationSet& set : evaluation_sets_) {
    auto metrics = evaluate(learner_, set, options_.schedule, options_.data, state_.result.steps, state_.result.epoch,
                            ring_.evaluation(), observer_);
    if (!metrics) {
      return false;
    }
    taken.push_back(std::move(*metrics));
  }
  if (!observer_.on_evaluated(state_.result.steps)) {
    return false;
  }
  for (const EvalMetrics& metrics : taken) {
    observer_.on_evaluation(metrics);
  }
  state_.evaluated_at = state_.result.steps;
  results = std::move(taken);
  return true;
}

int64_t most_evaluation_batches(const std::vector<EvaluationSet>& sets, const TrainerOptions& options) {
  int64_t most = 0;
  for (const EvaluationSet& set : sets) {
    most = std::max(most, evaluation_batches(set, options.schedule, options.data));
  }
  return most;
}

}  // namespace phi3tune::train
