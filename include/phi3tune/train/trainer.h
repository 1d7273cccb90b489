// The loop: epochs, optimizer steps, micro-batches; evaluations between them.
//
// It prints nothing and opens no file: what happens goes to an observer. The order of the data, the dropout and every
// sum depend on the options alone, so the same run twice has the same bits (with the same thread count).
//
// The loss of a step is a mean over the trained tokens of all its micro-batches: however the rows are cut into
// micro-batches, its gradient is the same. The last step of an epoch takes the rows that are left.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/data/batching.h"
#include "phi3tune/data/dataset.h"
#include "phi3tune/train/due_steps.h"
#include "phi3tune/train/evaluation.h"
#include "phi3tune/train/learner.h"
#include "phi3tune/train/loop_state.h"
#include "phi3tune/train/metrics.h"
#include "phi3tune/train/optimizer.h"
#include "phi3tune/train/schedule.h"
#include "phi3tune/train/step_ring.h"

namespace phi3tune::train {

struct TrainerOptions {
  config::ScheduleOptions schedule;
  config::DataOptions data;  // packing, shuffling, grouping
  config::EvalOptions eval;
  int64_t logging_steps = 1;  // an asynchronous back end's numbers are looked at this often
  config::SaveOptions save{};
};

// Of the largest set.
int64_t most_evaluation_batches(const std::vector<EvaluationSet>& sets, const TrainerOptions& options);

class BestMetric;

class Trainer {
 public:
  // The dataset, the examples of the evaluation sets and the observer must outlive the trainer. Throws ConfigError for
  // settings the schedule would ignore, DataError when there is nothing to train.
  Trainer(Learner& learner, const data::Dataset& dataset, std::vector<EvaluationSet> evaluation_sets,
          TrainerOptions options, TrainObserver& observer);
  ~Trainer();

  // Goes on from a checkpoint, whose parameters and moments are in the learner and in optimizer().state() already. Then
  // every step, evaluation and save is the one that the run would have made without the break, to the bit. kept_here:
  // the saver has that checkpoint.
  void resume(const LoopState& state, int64_t optimizer_updates, bool kept_here = true);

  // Trains to the end, or until the stop flag is seen (polled per micro-batch): an unfinished step is then given up, so
  // the parameters are those after `steps` whole updates. `saver`, if not null, is called when a checkpoint is due,
  // when an evaluation is the best so far, when a signal asks for one or stops the run, and at the end.
  //
  // Throws NumericsError, and makes no update from that step on, when a loss or the norm of the gradients is not
  // finite; it names the step and the samples (file:line). On an asynchronous back end it is seen when the numbers are
  // read: every logging_steps, before an evaluation, a save and at the end. So when the loss stays above
  // loss_watchdog_threshold.
  TrainResult run(TrainSaver* saver = nullptr);

  const RunPlan& plan() const noexcept { return run_plan_; }
  const AdamW& optimizer() const noexcept { return optimizer_; }
  // Checkpoints that fall due, that of the end among them.
  int64_t planned_saves() const;
  const LoopState& state() const noexcept { return state_; }

 private:
  using Step = std::vector<std::vector<int64_t>>;  // rows of each micro-batch
  // A step that was handed to the back end and not looked at yet.
  struct Pending {
    StepMetrics metrics;
    double weight = 0.0;
    std::vector<std::vector<int64_t>> examples;  // of each micro-batch
  };
  // Each of the six is false when the stop flag was seen.
  bool train_all();
  bool train_epoch(int64_t epoch);
  bool after_step();
  bool train_step(const Step& step, double epochs_done);
  bool enqueue_step(const Step& step, double epochs_done);
  bool evaluate_all(std::vector<EvalMetrics>& results);
  bool at_end() const noexcept;
  void save(SaveReason reason);
  // Reads what the back end found in the pending steps, and tells the observer.
  void read_pending();
  uint64_t memory_bytes() const;  // see StepMetrics
  void check_finite(const Pending& step, const StepRing::Numbers& numbers) const;
  void watch_loss(const Pending& step, double loss);

  Learner& learner_;
  const data::Dataset& dataset_;
  std::vector<EvaluationSet> evaluation_sets_;
  TrainerOptions options_;
  TrainObserver& observer_;
  std::vector<data::Row> rows_;
  data::StepPlan step_plan_;
  LearningRateSchedule schedule_;
  DueSteps evaluation_steps_;
  DueSteps save_steps_;
  std::unique_ptr<BestMetric> best_metric_;
  StepRing ring_;
  AdamW optimizer_;
  std::vector<Pending> pending_;
  std::chrono::steady_clock::time_point pending_since_;
  std::chrono::steady_clock::time_point started_;  // this session
  double seconds_before_ = 0.0;                    // of earlier ones
  RunPlan run_plan_;
  TrainSaver* saver_ = nullptr;
  int64_t saved_at_ = 0;  // steps made at the newest checkpoint; at none there is nothing to save
  bool is_best_ = false;  // the newest evaluation
  LoopState state_;
};

}  // namespace phi3tune::train
