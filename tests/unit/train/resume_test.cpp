// A run that is broken off after any step and gone on with makes the same steps, evaluations and saves, to the bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/train/trainer.h"
#include "support/temp_folder.h"
#include "toy_run.h"

namespace phi3tune {
namespace {

using test::Recorder;
using test::toy_dataset;
using test::toy_options;
using test::ToyLearner;
using testing::ElementsAre;
using testing::HasSubstr;
using train::SaveReason;

struct Kept {
  train::LoopState state;
  SaveReason reason{};
  at::Tensor parameters, moment1, moment2;
  int64_t updates = 0;
};

class Keeper final : public train::TrainSaver {
 public:
  explicit Keeper(ToyLearner& learner) : learner_(learner) {}
  train::SaveMetrics save(const train::LoopState& state, const train::AdamWState& optimizer,
                          SaveReason reason) override {
    kept.push_back({state, reason, learner_.parameters().clone(), optimizer.moment1.clone(), optimizer.moment2.clone(),
                    optimizer.step});
    return {.step = state.result.steps, .reason = reason, .path = {}, .bytes = 0, .seconds = 0, .rotated = {}};
  }
  std::vector<int64_t> steps() const {
    std::vector<int64_t> steps;
    for (const auto& one : kept) {
      steps.push_back(one.state.result.steps);
    }
    return steps;
  }
  std::vector<Kept> kept;

 private:
  ToyLearner& learner_;
};

struct Outcome {
  train::TrainResult result;
  at::Tensor parameters;
  std::vector<ToyLearner::Call> calls;
  std::vector<train::StepMetrics> steps;
  std::vector<train::EvalMetrics> evaluations;
  std::vector<Kept> kept;
};

Outcome run(const data::Dataset& dataset, const train::TrainerOptions& options, const Kept* from) {
  ToyLearner learner;
  Recorder recorder;
  Keeper keeper(learner);
  train::Trainer trainer(learner, dataset, {{"validation", dataset.train, &dataset}}, options, recorder);
  if (from != nullptr) {
    learner.parameters().copy_(from->parameters);
    at::Tensor(trainer.optimizer().state().moment1).copy_(from->moment1);
    at::Tensor(trainer.optimizer().state().moment2).copy_(from->moment2);
    trainer.resume(from->state, from->updates);
  }
  Outcome outcome;
  outcome.result = trainer.run(&keeper);
  outcome.parameters = learner.parameters().clone();
  outcome.calls = learner.calls;
  outcome.steps = recorder.steps;
  outcome.evaluations = recorder.evaluations;
  outcome.kept = keeper.kept;
  return outcome;
}

template <typename T>
std::vector<T> last_of(const std::vector<T>& all, size_t count) {
  EXPECT_GE(all.size(), count);
  return {all.end() - static_cast<ptrdiff_t>(std::min(count, all.size())), all.end()};
}

void expect_same_from(const Outcome& whole, const Outcome& resumed, int64_t step) {
  EXPECT_TRUE(resumed.parameters.equal(whole.parameters));
  EXPECT_EQ(resumed.result.steps, whole.result.steps);
  EXPECT_EQ(resumed.result.epoch, whole.result.epoch);
  EXPECT_EQ(resumed.result.tokens, whole.result.tokens);
  EXPECT_EQ(resumed.result.trained_tokens, whole.result.trained_tokens);
  EXPECT_EQ(resumed.result.last_loss, whole.result.last_loss);
  EXPECT_EQ(resumed.result.ended_early, whole.result.ended_early);
  const auto calls = last_of(whole.calls, resumed.calls.size());
  for (size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(resumed.calls[i].step, calls[i].step);
    EXPECT_EQ(resumed.calls[i].samples, calls[i].samples);
  }
  ASSERT_EQ(static_cast<int64_t>(resumed.steps.size()), whole.result.steps - step);
  const auto steps = last_of(whole.steps, resumed.steps.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    EXPECT_EQ(resumed.steps[i].step, steps[i].step);
    EXPECT_EQ(resumed.steps[i].epoch, steps[i].epoch);
    EXPECT_EQ(resumed.steps[i].loss, steps[i].loss);
    EXPECT_EQ(resumed.steps[i].learning_rate, steps[i].learning_rate);
  }
  size_t later = 0;
  for (const auto& evaluation : whole.evaluations) {
    later += evaluation.step > step ? 1 : 0;
  }
  ASSERT_EQ(resumed.evaluations.size(), later);
  const auto evaluations = last_of(whole.evaluations, later);
  for (size_t i = 0; i < later; ++i) {
    EXPECT_EQ(resumed.evaluations[i].step, evaluations[i].step);
    EXPECT_EQ(resumed.evaluations[i].eval_loss, evaluations[i].eval_loss);
  }
  const auto& first = resumed.result.first_evaluation;
  ASSERT_EQ(first.size(), whole.result.first_evaluation.size());
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].eval_loss, whole.result.first_evaluation[i].eval_loss);
  }
}

train::TrainerOptions long_options(int64_t micro, int64_t accumulate) {
  auto options = toy_options(micro, accumulate);
  options.schedule.num_epochs = 3.0;
  options.schedule.warmup_ratio = 0.2;
  options.data.shuffle = true;
  options.eval.eval_on_start = true;
  options.eval.eval_steps = 2;
  options.save.save_steps = 1;
  return options;
}

TEST(Resume, GoesOnAtEveryStepAsIfNothingHadHappened) {
  const data::Dataset dataset = toy_dataset(11);
  size_t points = 0;
  for (const int64_t accumulate : {1, 3, 4}) {
    for (const bool packing : {false, true}) {
      auto options = long_options(1, accumulate);
      options.data.sample_packing = packing;
      options.data.sequence_len = 12;
      const Outcome whole = run(dataset, options, nullptr);
      ASSERT_EQ(static_cast<int64_t>(whole.kept.size()), whole.result.steps);
      for (const Kept& kept : whole.kept) {
        SCOPED_TRACE(std::to_string(accumulate) + (packing ? " packed" : "") + " after step " +
                     std::to_string(kept.state.result.steps));
        expect_same_from(whole, run(dataset, options, &kept), kept.state.result.steps);
        ++points;
      }
    }
  }
  EXPECT_GE(points, 60U);
}

TEST(Resume, AnEvaluationThatWasMissedIsMadeFirst) {
  const data::Dataset dataset = toy_dataset(8);
  const auto options = long_options(1, 2);
  const Outcome whole = run(dataset, options, nullptr);
  Kept kept = whole.kept.at(1);
  ASSERT_EQ(kept.state.evaluated_at, 2);
  // As a stop between the update and its evaluation leaves it.
  kept.state.evaluated_at = whole.kept.at(0).state.evaluated_at;
  kept.state.best = whole.kept.at(0).state.best;
  kept.state.result.last_evaluation = whole.kept.at(0).state.result.last_evaluation;
  const Outcome resumed = run(dataset, options, &kept);
  EXPECT_TRUE(resumed.parameters.equal(whole.parameters));
  ASSERT_FALSE(resumed.evaluations.empty());
  EXPECT_EQ(resumed.evaluations.front().step, 2);
  EXPECT_EQ(resumed.evaluations.size() + 1, whole.evaluations.size());
  ASSERT_TRUE(resumed.kept.back().state.best);
  EXPECT_EQ(resumed.kept.back().state.best->step, whole.kept.back().state.best->step);
}

TEST(Resume, AFinishedRunHasNothingLeftToDo) {
  const data::Dataset dataset = toy_dataset(8);
  const auto options = long_options(1, 2);
  const Outcome whole = run(dataset, options, nullptr);
  EXPECT_GT(whole.kept.front().state.result.seconds, 0.0);
  const Outcome again = run(dataset, options, &whole.kept.back());
  EXPECT_EQ(again.result.status, train::TrainStatus::kFinished);
  EXPECT_TRUE(again.calls.empty());
  EXPECT_TRUE(again.kept.empty());
  EXPECT_TRUE(again.parameters.equal(whole.parameters));
}

TEST(Saves, FallDueAtTheirStepsAndAtTheEnd) {
  const data::Dataset dataset = toy_dataset(8);
  auto options = long_options(1, 2);  // 12 steps
  options.save.save_best = false;
  options.save.save_steps = 5;
  const auto steps_of = [&] {
    std::vector<int64_t> steps;
    for (const Kept& kept : run(dataset, options, nullptr).kept) {
      steps.push_back(kept.state.result.steps);
    }
    return steps;
  };
  EXPECT_THAT(steps_of(), ElementsAre(5, 10, 12));
  options.save.save_steps = 0.5;
  EXPECT_THAT(steps_of(), ElementsAre(6, 12));
  options.save.saves_per_epoch = 1;
  EXPECT_THAT(steps_of(), ElementsAre(4, 8, 12));
  options.save.saves_per_epoch.reset();
  options.save.save_steps.reset();
  EXPECT_THAT(steps_of(), ElementsAre(12));
}

TEST(Saves, TheBestEvaluationIsKept) {
  const data::Dataset dataset = toy_dataset(8);
  auto options = long_options(1, 2);
  options.save.save_steps.reset();
  options.eval.metric_for_best_model = "eval_loss";
  const Outcome outcome = run(dataset, options, nullptr);
  double best = INFINITY;
  std::vector<int64_t> better;
  for (const auto& evaluation : outcome.evaluations) {
    if (evaluation.step > 0 && evaluation.eval_loss < best) {
      best = evaluation.eval_loss;
      better.push_back(evaluation.step);
    }
  }
  std::vector<int64_t> saved;
  for (const Kept& kept : outcome.kept) {
    saved.push_back(kept.state.result.steps);
    ASSERT_TRUE(kept.state.best);
  }
  if (better.back() != outcome.result.steps) {
    better.push_back(outcome.result.steps);
  }
  EXPECT_EQ(saved, better);
  EXPECT_EQ(outcome.kept.back().state.best->value, best);
}

TEST(Saves, ASignalAsksForOneAtTheEndOfItsStep) {
  const data::Dataset dataset = toy_dataset(8);
  auto options = long_options(1, 2);
  options.save.save_steps.reset();
  options.save.save_best = false;
  ToyLearner learner;
  Recorder recorder;
  Keeper keeper(learner);
  learner.on_call = [](int64_t call, at::Tensor, at::Tensor&) {
    if (call == 5) {  // the first of step 3
      request_save();
    }
  };
  train::Trainer(learner, dataset, {}, options, recorder).run(&keeper);
  EXPECT_THAT(keeper.steps(), ElementsAre(3, 12));
  EXPECT_EQ(keeper.kept.front().reason, SaveReason::kAsked);
}

TEST(Saves, AStopSavesTheLastWholeStep) {
  const data::Dataset dataset = toy_dataset(8);
  for (const bool wanted : {true, false}) {
    auto options = long_options(1, 2);
    options.save.save_steps.reset();
    options.save.save_on_signal = wanted;
    ToyLearner learner;
    Recorder recorder;
    Keeper keeper(learner);
    learner.on_call = [](int64_t call, at::Tensor, at::Tensor&) {
      if (call == 8) {
        request_stop();
      }
    };
    const auto result = train::Trainer(learner, dataset, {}, options, recorder).run(&keeper);
    forget_stop();
    EXPECT_EQ(result.status, train::TrainStatus::kStopped);
    EXPECT_EQ(result.steps, 4);
    EXPECT_EQ(keeper.kept.size(), wanted ? 1U : 0U);
    if (wanted) {
      EXPECT_EQ(keeper.kept.front().reason, SaveReason::kStopped);
      EXPECT_EQ(keeper.kept.front().state.result.steps, 4);
    }
  }
}

TEST(EarlyStopping, EndsTheRunWhenNoEvaluationIsBetterAndStaysEnded) {
  const data::Dataset dataset = toy_dataset(8);
  auto options = long_options(1, 2);
  options.schedule.num_epochs = 30.0;
  options.schedule.learning_rate = 1.5;  // too high to get better for long
  options.eval.early_stopping_patience = 2;
  const Outcome whole = run(dataset, options, nullptr);
  ASSERT_TRUE(whole.result.ended_early);
  EXPECT_EQ(whole.result.status, train::TrainStatus::kFinished);
  EXPECT_LT(whole.result.steps, 120);
  ASSERT_TRUE(whole.kept.back().state.best);
  EXPECT_EQ(whole.kept.back().state.best->step + 4, whole.result.steps);  // two evaluations, two steps apart
  for (const Kept& kept : whole.kept) {
    expect_same_from(whole, run(dataset, options, &kept), kept.state.result.steps);
  }
}

TEST(EarlyStopping, AMetricThatIsNoneIsRefusedWithThoseThereAre) {
  const data::Dataset dataset = toy_dataset(8);
  auto options = long_options(1, 2);
  options.eval.metric_for_best_model = "eval_general_loss";
  ToyLearner learner;
  Recorder recorder;
  EXPECT_THAT(test::message_of<ConfigError>([&] {
                train::Trainer(learner, dataset, {{"validation", dataset.train, &dataset}}, options, recorder);
              }),
              testing::AllOf(HasSubstr("eval_general_loss"), HasSubstr("eval_validation_loss")));
}

TEST(LossWatchdog, EndsARunWhoseLossStaysAbove) {
  const data::Dataset dataset = toy_dataset(8);
  auto options = long_options(1, 2);
  options.eval.loss_watchdog_threshold = 1e-3;
  options.eval.loss_watchdog_patience = 3;
  ToyLearner learner;
  Recorder recorder;
  Keeper keeper(learner);
  train::Trainer trainer(learner, dataset, {}, options, recorder);
  EXPECT_THAT(test::message_of<NumericsError>([&] { trainer.run(&keeper); }),
              testing::AllOf(HasSubstr("step 3:"), HasSubstr("loss_watchdog_threshold"), HasSubstr("data/toy.jsonl:")));
  EXPECT_THAT(keeper.steps(), ElementsAre(1, 2));
}

}  // namespace
}  // namespace phi3tune
