#include "phi3tune/train/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "phi3tune/core/error.h"
#include "phi3tune/train/due_steps.h"
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

std::vector<int64_t> due_steps(const config::EvalOptions& options, int64_t updates_per_epoch, int64_t epochs) {
  data::StepPlan plan;
  plan.updates_per_epoch = updates_per_epoch;
  plan.num_epochs = epochs;
  plan.max_steps = updates_per_epoch * epochs;
  const train::DueSteps times(options.eval_steps, options.evals_per_epoch, plan);
  std::vector<int64_t> due;
  for (int64_t step = 0; step <= plan.max_steps; ++step) {
    if (times.due(step)) {
      due.push_back(step);
    }
  }
  return due;
}

TEST(DueSteps, FollowTheSettings) {
  config::EvalOptions options;
  EXPECT_THAT(due_steps(options, 5, 2), ElementsAre());
  options.eval_steps = 3.0;
  EXPECT_THAT(due_steps(options, 5, 2), ElementsAre(3, 6, 9));
  options.eval_steps = 0.25;  // ceil(2.5)
  EXPECT_THAT(due_steps(options, 5, 2), ElementsAre(3, 6, 9));
  options.eval_steps.reset();
  options.evals_per_epoch = 1;
  EXPECT_THAT(due_steps(options, 5, 2), ElementsAre(5, 10));
  options.evals_per_epoch = 2;
  EXPECT_THAT(due_steps(options, 5, 2), ElementsAre(3, 5, 8, 10));
  options.evals_per_epoch = 9;  // more than there are updates
  EXPECT_THAT(due_steps(options, 2, 2), ElementsAre(1, 2, 3, 4));
}

TEST(Evaluation, LossIsAMeanOverAllTokensHoweverTheyAreBatched) {
  const data::Dataset dataset = toy_dataset(7);
  std::vector<train::EvalMetrics> results;
  for (const int64_t batch : {1, 3, 7, 0}) {
    ToyLearner learner;
    Recorder recorder;
    auto options = toy_options(2, 1);
    options.schedule.eval_batch_size = batch;
    const train::EvaluationSet set{"general", dataset.train, &dataset};
    const int64_t batches = train::evaluation_batches(set, options.schedule, options.data);
    const auto metrics = train::evaluate(learner, set, options.schedule, options.data, 5, 0.5,
                                         at::zeros({batches, 2}, at::kDouble), recorder);
    ASSERT_TRUE(metrics.has_value());
    EXPECT_EQ(learner.evaluated_batches, batches);
    EXPECT_EQ(learner.evaluated_batches, batch == 0 ? 4 : (7 + batch - 1) / batch);  // 0: as in training, 2
    results.push_back(*metrics);
  }
  int64_t targets = 0;
  for (const data::Example& example : dataset.train) {
    targets += example.trained_tokens();
  }
  for (const auto& result : results) {
    EXPECT_NEAR(result.eval_loss, results[0].eval_loss, 1e-14);
    EXPECT_EQ(result.token_accuracy, results[0].token_accuracy);
    EXPECT_EQ(result.eval_tokens, targets);
    EXPECT_EQ(result.name, "general");
    EXPECT_EQ(result.step, 5);
  }
  EXPECT_GT(results[0].token_accuracy, 0.0);
  EXPECT_LT(results[0].token_accuracy, 1.0);
}

TEST(Evaluation, SameLossAsAStepOverTheSameRowsBeforeItsUpdate) {
  const data::Dataset dataset = toy_dataset(6);
  auto options = toy_options(6, 1);
  options.eval.eval_on_start = true;
  ToyLearner learner;
  Recorder recorder;
  const auto result = train::Trainer(learner, dataset, {{"train", dataset.train, &dataset}}, options, recorder).run();
  ASSERT_EQ(result.first_evaluation.size(), 1U);
  EXPECT_NEAR(result.first_evaluation[0].eval_loss, recorder.steps.at(0).loss, 1e-14);
  EXPECT_LT(result.last_evaluation.at(0).eval_loss, result.first_evaluation[0].eval_loss);
}

TEST(Evaluation, IsTakenAtTheStartAtIntervalsAndOnceAtTheEndForEverySet) {
  const data::Dataset dataset = toy_dataset(6);
  const data::Dataset other = toy_dataset(3);
  auto options = toy_options(1, 1);
  options.eval.eval_on_start = true;
  options.eval.eval_steps = 3.0;
  ToyLearner learner;
  Recorder recorder;
  const auto result =
      train::Trainer(learner, dataset, {{"validation", dataset.train, &dataset}, {"general", other.train, &other}},
                     options, recorder)
          .run();
  std::vector<std::pair<std::string, int64_t>> seen;
  for (const auto& evaluation : recorder.evaluations) {
    seen.emplace_back(evaluation.name, evaluation.step);
  }
  using P = std::pair<std::string, int64_t>;
  EXPECT_THAT(seen, ElementsAre(P{"validation", 0}, P{"general", 0}, P{"validation", 3}, P{"general", 3},
                                P{"validation", 6}, P{"general", 6}));
  ASSERT_EQ(result.last_evaluation.size(), 2U);
  EXPECT_EQ(result.last_evaluation[1].name, "general");
  EXPECT_EQ(result.last_evaluation[1].step, 6);
  EXPECT_EQ(result.first_evaluation[1].step, 0);
}

TEST(Evaluation, DoesNotChangeTheRun) {
  const data::Dataset dataset = toy_dataset(6);
  std::vector<at::Tensor> parameters;
  for (const bool watched : {false, true}) {
    auto options = toy_options(2, 1);
    options.eval.eval_on_start = watched;
    options.eval.eval_steps = 1.0;
    ToyLearner learner;
    Recorder recorder;
    std::vector<train::EvaluationSet> sets;
    if (watched) {
      sets.push_back({"validation", dataset.train, &dataset});
    }
    train::Trainer(learner, dataset, sets, options, recorder).run();
    parameters.push_back(learner.parameters());
  }
  EXPECT_TRUE(parameters[0].equal(parameters[1]));
}

TEST(Evaluation, LossThatIsNotFiniteNamesSetAndSamples) {
  const data::Dataset dataset = toy_dataset(4);
  ToyLearner learner;
  learner.on_evaluate = [](int64_t batch, at::Tensor sums) {
    if (batch == 2) {
      sums[0] = std::numeric_limits<double>::quiet_NaN();
    }
  };
  Recorder recorder;
  const auto options = toy_options(1, 1);
  EXPECT_THAT(test::message_of<NumericsError>([&] {
                train::evaluate(learner, {"general", dataset.train, &dataset}, options.schedule, options.data, 9, 1.0,
                                at::zeros({4, 2}, at::kDouble), recorder);
              }),
              testing::AllOf(HasSubstr("general"), HasSubstr("9 steps"), HasSubstr("data/toy.jsonl:2")));
}

}  // namespace
}  // namespace phi3tune
