// The loop over the CUDA back end: its numbers wait in a ring, and a device is only stopped when somebody looks.
#include "phi3tune/train/trainer.h"

#include <cmath>

#include "fixture.h"
#include "phi3tune/train/learner.h"
#include "unit/model/reference.h"
#include "unit/train/toy_run.h"

namespace phi3tune::cuda::test {
namespace {

class TrainerOnDevice : public OnDevice {
 protected:
  // A model of its own for each run, so that all start from the same adapter.
  std::vector<train::StepMetrics> run(const data::Dataset& dataset, const train::TrainerOptions& options,
                                      at::ScalarType dtype = at::kFloat) {
    model::Phi3Options wanted;
    wanted.compute_dtype = dtype;
    setup_ = make_deep_setup(folder_ / "model", 2, wanted);
    train::AdapterLearner learner(*setup_.model, *setup_.adapters);
    recorder_ = {};
    train::Trainer trainer(learner, dataset, {}, options, recorder_);
    trainer.run();
    return recorder_.steps;
  }
  Tensor parameters() const { return setup_.adapters->parameters(); }

  TempFolder folder_;
  phi3tune::test::Setup setup_;
  Recorder recorder_;
};

train::TrainerOptions options_of(int64_t logging_steps) {
  auto options = toy_options(2, 2);
  options.schedule.num_epochs = 2.0;
  options.schedule.weight_decay = 0.01;
  options.logging_steps = logging_steps;
  return options;
}

TEST_F(TrainerOnDevice, WaitsOnlyEveryLoggingSteps) {
  const data::Dataset dataset = toy_dataset(24);  // 12 steps
  for (const int64_t every : {1, 4, 5, 100}) {
    const auto before = counters().synchronisations;
    const auto steps = run(dataset, options_of(every));
    ASSERT_EQ(steps.size(), 12U);
    EXPECT_EQ(counters().synchronisations - before, static_cast<uint64_t>((12 + every - 1) / every)) << every;
  }
}

TEST_F(TrainerOnDevice, TheNumbersDoNotDependOnWhenTheyAreRead) {
  const data::Dataset dataset = toy_dataset(24);
  const auto wanted = run(dataset, options_of(1));
  const Tensor parameters_wanted = parameters().clone();
  const auto late = run(dataset, options_of(7));
  ASSERT_EQ(late.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(late[i].step, wanted[i].step);
    EXPECT_EQ(late[i].loss, wanted[i].loss);
    EXPECT_EQ(late[i].grad_norm, wanted[i].grad_norm);
    EXPECT_EQ(late[i].trained_tokens, wanted[i].trained_tokens);
  }
  EXPECT_TRUE(same_bits(parameters(), parameters_wanted));
}

TEST_F(TrainerOnDevice, LossesFollowTheCpus) {
  const data::Dataset dataset = toy_dataset(24);
  const auto found = run(dataset, options_of(4));
  ops::choose_backend(ops::cpu_backend());
  const auto wanted = run(dataset, options_of(4));
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i].loss, wanted[i].loss, 1e-5 * wanted[i].loss) << "step " << i + 1;
    EXPECT_NEAR(found[i].grad_norm, wanted[i].grad_norm, 1e-4 * wanted[i].grad_norm);
  }
}

TEST_F(TrainerOnDevice, ABadStepIsNamedWhenItIsReadAndNothingLaterWasApplied) {
  const data::Dataset good = toy_dataset(24);
  data::Dataset bad = good;
  bad.train[9].weights.assign(bad.train[9].input_ids.size(), INFINITY);  // in step 3: a loss that is not finite
  auto options = options_of(100);
  options.schedule.num_epochs = 1.0;
  options.schedule.scheduler = config::Scheduler::kConstant;
  const std::string message = message_of<NumericsError>([&] { run(bad, options); });
  EXPECT_THAT(message, testing::HasSubstr("step 3:"));
  EXPECT_THAT(message, testing::HasSubstr("data/toy.jsonl:10"));
  EXPECT_EQ(recorder_.steps.size(), 2U);
  const Tensor halted = parameters().clone();
  options.schedule.max_steps = 2;
  run(good, options);
  EXPECT_TRUE(same_bits(halted, parameters())) << "the parameters are those after two whole updates";
}

}  // namespace
}  // namespace phi3tune::cuda::test
