#include "phi3tune/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "support/temp_folder.h"
#include "toy_run.h"

namespace phi3tune {
namespace {

using test::Recorder;
using test::toy_dataset;
using test::toy_options;
using test::ToyLearner;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

double relative(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

TEST(Trainer, GradientOfAStepDoesNotDependOnHowItsRowsAreCut) {
  const data::Dataset dataset = toy_dataset(8);
  const auto one_step = [&](int64_t micro, int64_t accumulate, double& loss) {
    ToyLearner learner;
    Recorder recorder;
    train::Trainer(learner, dataset, {}, toy_options(micro, accumulate), recorder).run();
    EXPECT_EQ(recorder.steps.size(), 1U);
    EXPECT_EQ(static_cast<int64_t>(learner.calls.size()), (8 + micro - 1) / micro);
    loss = recorder.steps.at(0).loss;
    return learner.gradients().clone();
  };
  double whole_loss = 0.0;
  const at::Tensor whole = one_step(8, 1, whole_loss);
  for (const auto& [micro, accumulate] : {std::pair{1, 8}, std::pair{3, 3}, std::pair{5, 2}, std::pair{2, 4}}) {
    SCOPED_TRACE(micro);
    double loss = 0.0;
    EXPECT_LE(relative(one_step(micro, accumulate, loss), whole), 1e-14);
    EXPECT_NEAR(loss, whole_loss, 1e-14);
  }
}

TEST(Trainer, LossIsTheWeightedMeanOverTheTokensOfTheStep) {
  const data::Dataset dataset = toy_dataset(5);
  ToyLearner learner;
  const at::Tensor logp = at::log_softmax(learner.parameters().clone().view({test::kToyVocab, test::kToyVocab}), 1);
  double sum = 0.0;
  double weight = 0.0;
  int64_t targets = 0;
  int64_t tokens = 0;
  for (const data::Example& example : dataset.train) {
    tokens += static_cast<int64_t>(example.input_ids.size());
    for (size_t i = 1; i < example.input_ids.size(); ++i) {
      if (example.labels[i] != data::kIgnoreLabel) {
        const double w = example.weights.empty() ? 1.0 : static_cast<double>(example.weights[i]);
        sum -= w * logp[example.input_ids[i - 1]][example.labels[i]].item<double>();
        weight += w;
        ++targets;
      }
    }
  }
  Recorder recorder;
  train::Trainer(learner, dataset, {}, toy_options(2, 3), recorder).run();
  ASSERT_EQ(recorder.steps.size(), 1U);
  EXPECT_NEAR(recorder.steps[0].loss, sum / weight, 1e-14);
  EXPECT_NE(weight, static_cast<double>(targets));  // the weights matter
  EXPECT_EQ(recorder.steps[0].trained_tokens, targets);
  EXPECT_EQ(recorder.steps[0].tokens, tokens);
}

TEST(Trainer, LastStepOfAnEpochTakesTheRemainder) {
  const data::Dataset dataset = toy_dataset(9);  // 5 micro-batches of 2, 2, 2, 2, 1
  auto options = toy_options(2, 2);
  options.schedule.num_epochs = 2.0;
  ToyLearner learner;
  Recorder recorder;
  const train::TrainResult result = train::Trainer(learner, dataset, {}, options, recorder).run();
  EXPECT_EQ(result.status, train::TrainStatus::kFinished);
  EXPECT_EQ(result.steps, 6);
  EXPECT_EQ(recorder.plan.max_steps, 6);
  EXPECT_EQ(recorder.plan.updates_per_epoch, 3);
  EXPECT_EQ(learner.refreshed, 6);
  std::vector<uint64_t> steps;
  for (const auto& call : learner.calls) {
    steps.push_back(call.step);
  }
  EXPECT_THAT(steps, ElementsAre(0, 0, 1, 1, 2, 3, 3, 4, 4, 5));
  EXPECT_THAT(learner.calls[4].samples, ElementsAre(108));
  std::vector<double> epochs;
  for (const auto& step : recorder.steps) {
    epochs.push_back(step.epoch);
  }
  EXPECT_THAT(epochs, ElementsAre(2.0 / 5, 4.0 / 5, 1.0, 1 + 2.0 / 5, 1 + 4.0 / 5, 2.0));
  // A lone micro-batch is normalised by its own tokens: alone it gives the same loss.
  ToyLearner alone;
  alone.parameters().copy_(ToyLearner().parameters());
  EXPECT_EQ(recorder.steps[2].trained_tokens, dataset.train[8].trained_tokens());
}

TEST(Trainer, MaxStepsEndsARunInsideAnEpochAndBeyondOne) {
  const data::Dataset dataset = toy_dataset(6);
  for (const int64_t max_steps : {2, 7}) {
    auto options = toy_options(2, 1);
    options.schedule.max_steps = max_steps;
    ToyLearner learner;
    Recorder recorder;
    EXPECT_EQ(train::Trainer(learner, dataset, {}, options, recorder).run().steps, max_steps);
    EXPECT_EQ(static_cast<int64_t>(recorder.steps.size()), max_steps);
    EXPECT_DOUBLE_EQ(recorder.steps.back().epoch, static_cast<double>(max_steps) / 3);
  }
}

TEST(Trainer, FirstUpdateOfAWarmUpHasRateZeroAndChangesNothing) {
  const data::Dataset dataset = toy_dataset(4);
  auto options = toy_options(4, 1);
  options.schedule.max_steps = 3;
  options.schedule.warmup_steps = 2;
  ToyLearner learner;
  Recorder recorder;
  train::Trainer(learner, dataset, {}, options, recorder).run();
  EXPECT_EQ(recorder.steps[0].learning_rate, 0.0);
  EXPECT_EQ(recorder.steps[1].learning_rate, 0.025);
  EXPECT_EQ(recorder.steps[2].learning_rate, 0.05);
  EXPECT_EQ(recorder.steps[0].loss, recorder.steps[1].loss);
  EXPECT_LT(recorder.steps[2].loss, recorder.steps[1].loss);
}

TEST(Trainer, GradientNormIsReportedBeforeClippingAndClippingHolds) {
  const data::Dataset dataset = toy_dataset(4);
  std::vector<double> norms;
  std::vector<at::Tensor> results;
  for (const double clip : {0.0, 1e-4}) {
    auto options = toy_options(4, 1);
    options.schedule.max_grad_norm = clip;
    options.schedule.adam_epsilon = 1.0;  // so that the size of the gradient matters
    options.schedule.scheduler = config::Scheduler::kConstant;
    ToyLearner learner;
    Recorder recorder;
    train::Trainer(learner, dataset, {}, options, recorder).run();
    norms.push_back(recorder.steps.at(0).grad_norm);
    results.push_back((learner.parameters() - ToyLearner().parameters()).norm());
  }
  EXPECT_EQ(norms[0], norms[1]);
  EXPECT_GT(norms[0], 1e-3);
  // lr * |g| / (|g| + 1) with |g| clipped to 1e-4 in all.
  EXPECT_NEAR(results[1].item<double>(), 0.05 * 1e-4, 0.05 * 1e-4 * 0.02);
  EXPECT_GT(results[0].item<double>(), results[1].item<double>() * 10);
}

TEST(Trainer, SameRunTwiceHasTheSameBits) {
  const data::Dataset dataset = toy_dataset(11);
  auto options = toy_options(2, 2);
  options.data.shuffle = true;
  options.schedule.num_epochs = 3;
  std::vector<at::Tensor> parameters;
  std::vector<std::vector<double>> losses;
  for (int run = 0; run < 2; ++run) {
    ToyLearner learner;
    Recorder recorder;
    train::Trainer(learner, dataset, {}, options, recorder).run();
    parameters.push_back(learner.parameters());
    losses.emplace_back();
    for (const auto& step : recorder.steps) {
      losses.back().push_back(step.loss);
    }
  }
  EXPECT_TRUE(parameters[0].equal(parameters[1]));
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_EQ(losses[0].size(), 9U);
}

TEST(Trainer, EpochsAreShuffledDifferentlyAndByTheSeed) {
  const data::Dataset dataset = toy_dataset(12);
  const auto order = [&](int64_t seed, bool shuffle) {
    auto options = toy_options(1, 12);
    options.data.shuffle = shuffle;
    options.schedule.num_epochs = 2;
    options.schedule.seed = seed;
    ToyLearner learner;
    Recorder recorder;
    train::Trainer(learner, dataset, {}, options, recorder).run();
    std::vector<uint64_t> samples;
    for (const auto& call : learner.calls) {
      samples.push_back(call.samples.at(0));
    }
    return samples;
  };
  const auto straight = order(1, false);
  EXPECT_TRUE(std::is_sorted(straight.begin(), straight.begin() + 12));
  const auto shuffled = order(1, true);
  const std::vector<uint64_t> first(shuffled.begin(), shuffled.begin() + 12);
  const std::vector<uint64_t> second(shuffled.begin() + 12, shuffled.end());
  EXPECT_NE(first, second);
  EXPECT_THAT(second, testing::UnorderedElementsAreArray(first));
  EXPECT_NE(order(2, true), shuffled);
}

// What a run of four steps of two micro-batches makes of mischief in its fifth micro-batch.
void expect_no_update_at_step_three(const std::function<void(at::Tensor, at::Tensor&)>& mischief,
                                    const std::string& what, const std::string& places) {
  const data::Dataset dataset = toy_dataset(8);
  ToyLearner learner;
  Recorder recorder;
  at::Tensor before;
  learner.on_call = [&](int64_t call, at::Tensor sums, at::Tensor& gradients) {
    if (call == 5) {
      before = learner.parameters().clone();
      mischief(sums, gradients);
    }
  };
  train::Trainer trainer(learner, dataset, {}, toy_options(1, 2), recorder);
  const std::string message = test::message_of<NumericsError>([&] { trainer.run(); });
  EXPECT_THAT(message, AllOf(HasSubstr("step 3:"), HasSubstr(what), HasSubstr(places)));
  EXPECT_EQ(recorder.steps.size(), 2U);
  EXPECT_EQ(recorder.finished, 0);
  EXPECT_EQ(learner.refreshed, 2);
  EXPECT_TRUE(before.equal(learner.parameters()));
  EXPECT_EQ(trainer.optimizer().state().step, 2);
  EXPECT_TRUE(at::isfinite(trainer.optimizer().state().moment1).all().item<bool>());
}

TEST(Trainer, LossThatIsNotFiniteMakesNoUpdateAndNamesTheMicroBatch) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    expect_no_update_at_step_three([bad](at::Tensor sums, at::Tensor&) { sums[0] = bad; }, "the loss",
                                   "samples: data/toy.jsonl:5;");
  }
}

TEST(Trainer, GradientThatIsNotFiniteMakesNoUpdateAndNamesTheStep) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
    expect_no_update_at_step_three([bad](at::Tensor, at::Tensor& gradients) { gradients[3] = bad; },
                                   "norm of the gradients", "samples: data/toy.jsonl:5, data/toy.jsonl:6;");
  }
}

TEST(Trainer, AFaultOfTheDeviceNamesTheStep) {
  const data::Dataset dataset = toy_dataset(8);
  ToyLearner learner;
  Recorder recorder;
  learner.on_call = [](int64_t call, at::Tensor, at::Tensor&) {
    if (call == 4) {
      throw ResourceError("attention: out of memory");
    }
  };
  train::Trainer trainer(learner, dataset, {}, toy_options(1, 2), recorder);
  EXPECT_EQ(test::message_of<ResourceError>([&] { trainer.run(); }), "step 2: attention: out of memory");
  EXPECT_EQ(recorder.steps.size(), 1U);
}

TEST(Trainer, NothingToTrainIsAnError) {
  ToyLearner learner;
  Recorder recorder;
  const data::Dataset empty;
  EXPECT_THROW(train::Trainer(learner, empty, {}, toy_options(1, 1), recorder), DataError);
  data::Dataset masked = toy_dataset(3);
  for (data::Example& example : masked.train) {
    std::fill(example.labels.begin(), example.labels.end(), data::kIgnoreLabel);
    example.weights.clear();
  }
  train::Trainer trainer(learner, masked, {}, toy_options(1, 3), recorder);
  EXPECT_THAT(test::message_of<DataError>([&] { trainer.run(); }), HasSubstr("data/toy.jsonl:1"));
}

TEST(Trainer, AStateThatIsNotFiniteEndsTheRunAtTheNextLossWithItsSamples) {
  const data::Dataset dataset = toy_dataset(8);
  ToyLearner learner;
  Recorder recorder;
  train::Trainer trainer(learner, dataset, {}, toy_options(1, 2), recorder);
  learner.on_call = [&](int64_t call, at::Tensor, at::Tensor&) {
    if (call == 3) {  // in step 2, whose update then makes parameters that are no numbers
      at::Tensor(trainer.optimizer().state().moment1).fill_(std::numeric_limits<double>::quiet_NaN());
    }
  };
  EXPECT_THAT(test::message_of<NumericsError>([&] { trainer.run(); }),
              AllOf(HasSubstr("step 3:"), HasSubstr("data/toy.jsonl:5")));
  EXPECT_EQ(recorder.steps.size(), 2U);
}

// The stop flag is never taken back in a process, so each of these ends in one of its own.
class StoppedTrainer : public testing::Test {
 protected:
  StoppedTrainer() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(StoppedTrainer, GivesUpTheUnfinishedStepAndKeepsWholeOnes) {
  const data::Dataset dataset = toy_dataset(8);
  EXPECT_EXIT(
      {
        ToyLearner whole;
        Recorder ignored;
        auto options = toy_options(1, 2);
        options.schedule.max_steps = 2;
        options.schedule.scheduler = config::Scheduler::kConstant;
        train::Trainer(whole, dataset, {}, options, ignored).run();

        options.schedule.max_steps = 4;
        ToyLearner learner;
        Recorder recorder;
        learner.on_call = [](int64_t call, at::Tensor, at::Tensor&) {
          if (call == 5) {
            request_stop();
          }
        };
        const train::TrainResult result = train::Trainer(learner, dataset, {}, options, recorder).run();
        const bool right = result.status == train::TrainStatus::kStopped && result.steps == 2 &&
                           learner.calls.size() == 5 && recorder.steps.size() == 2 && recorder.finished == 1 &&
                           learner.parameters().equal(whole.parameters()) && result.last_evaluation.empty();
        std::_Exit(right ? 42 : 1);
      },
      testing::ExitedWithCode(42), "");
}

TEST_F(StoppedTrainer, IsSeenInsideAnEvaluation) {
  const data::Dataset dataset = toy_dataset(8);
  EXPECT_EXIT(
      {
        ToyLearner learner;
        Recorder recorder;
        learner.on_evaluate = [](int64_t batch, at::Tensor) {
          if (batch == 3) {
            request_stop();
          }
        };
        auto options = toy_options(1, 2);
        options.eval.eval_on_start = true;
        const auto result =
            train::Trainer(learner, dataset, {{"validation", dataset.train, &dataset}}, options, recorder).run();
        const bool right = result.status == train::TrainStatus::kStopped && result.steps == 0 &&
                           learner.evaluated_batches == 3 && learner.calls.empty() && recorder.evaluations.empty();
        std::_Exit(right ? 42 : 1);
      },
      testing::ExitedWithCode(42), "");
}

}  // namespace
}  // namespace phi3tune
