// A learner small enough to see through, and data for it: next-token logits are a row of a table, in fp64.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "phi3tune/train/trainer.h"

namespace phi3tune::test {

inline constexpr int64_t kToyVocab = 7;

class ToyLearner final : public train::Learner {
 public:
  struct Call {
    uint64_t step = 0;
    std::vector<uint64_t> samples;
  };

  void forward_backward(const model::TokenBatch& batch, double gradient_scale, uint64_t step,
                        const at::Tensor& sums) override {
    calls.push_back({step, batch.sample_ids});
    run(batch, gradient_scale, sums);
    if (on_call) {
      on_call(static_cast<int64_t>(calls.size()), sums, gradients_);
    }
  }
  void evaluate(const model::TokenBatch& batch, const at::Tensor& sums) override {
    ++evaluated_batches;
    run(batch, 0.0, sums);
    if (on_evaluate) {
      on_evaluate(evaluated_batches, sums);
    }
  }
  at::ScalarType wide_dtype() const override { return at::kDouble; }
  at::Tensor parameters() override { return parameters_; }
  at::Tensor gradients() override { return gradients_; }
  at::Tensor compute_copy() override { return {}; }
  model::Arena& arena() override { return arena_; }
  void zero_gradients() override { gradients_.zero_(); }
  void parameters_changed() override { ++refreshed; }

  std::vector<Call> calls;
  int64_t evaluated_batches = 0;
  int64_t refreshed = 0;
  // Called with the number of the call (from 1), to do mischief.
  std::function<void(int64_t, at::Tensor, at::Tensor&)> on_call;  // with the sums [2] and the gradients
  std::function<void(int64_t, at::Tensor)> on_evaluate;

 private:
  void run(const model::TokenBatch& batch, double gradient_scale, at::Tensor sums) {
    const at::Tensor table = parameters_.view({kToyVocab, kToyVocab});
    const at::Tensor inputs = batch.input_ids.index_select(0, batch.target_rows);
    const at::Tensor logp = at::log_softmax(table.index_select(0, inputs), 1);
    const at::Tensor loss = -logp.gather(1, batch.targets.unsqueeze(1)).squeeze(1);
    const at::Tensor onehot = at::zeros_like(logp).scatter_(1, batch.targets.unsqueeze(1), 1.0);
    const at::Tensor grad = (logp.exp() - onehot) * (batch.weights * gradient_scale).unsqueeze(1);
    gradients_.view({kToyVocab, kToyVocab}).index_add_(0, inputs, grad);
    sums[0] += (loss * batch.weights).sum();
    sums[1] += at::eq(logp.argmax(1), batch.targets).sum();
  }

  model::Arena arena_;
  at::Tensor parameters_ = at::arange(kToyVocab * kToyVocab, at::kDouble).remainder(5).mul(0.1);
  at::Tensor gradients_ = at::zeros({kToyVocab * kToyVocab}, at::kDouble);
};

// `count` documents of 3 to 8 tokens, the first third untrained; every third document has weights.
inline data::Dataset toy_dataset(int64_t count) {
  data::Dataset dataset;
  dataset.files = {"data/toy.jsonl"};
  for (int64_t n = 0; n < count; ++n) {
    data::Example example;
    const int64_t length = 3 + n * 5 % 6;
    for (int64_t i = 0; i < length; ++i) {
      const auto id = static_cast<int32_t>((n * 3 + i * (1 + n % 3)) % kToyVocab);
      const bool trained = i > 0 && i >= length / 3;
      example.input_ids.push_back(id);
      example.labels.push_back(trained ? id : data::kIgnoreLabel);
      if (n % 3 == 0) {
        example.weights.push_back(trained ? 0.25F + static_cast<float>(i % 3) : 0.0F);
      }
    }
    example.sample_id = 100 + static_cast<uint64_t>(n);
    example.source = {0, static_cast<uint64_t>(n) + 1};
    dataset.train.push_back(std::move(example));
  }
  return dataset;
}

inline train::TrainerOptions toy_options(int64_t micro, int64_t accumulate) {
  train::TrainerOptions options;
  options.schedule.micro_batch_size = micro;
  options.schedule.gradient_accumulation_steps = accumulate;
  options.schedule.num_epochs = 1.0;
  options.schedule.learning_rate = 0.05;
  options.schedule.warmup_ratio = 0.0;
  options.data.shuffle = false;
  options.eval.eval_on_start = false;
  return options;
}

struct Recorder final : train::TrainObserver {
  void on_start(const train::RunPlan& given) override { plan = given; }
  void on_step(const train::StepMetrics& metrics) override { steps.push_back(metrics); }
  void on_evaluation(const train::EvalMetrics& metrics) override { evaluations.push_back(metrics); }
  void on_finish(const train::TrainResult&) override { ++finished; }
  train::RunPlan plan;
  std::vector<train::StepMetrics> steps;
  std::vector<train::EvalMetrics> evaluations;
  int finished = 0;
};

}  // namespace phi3tune::test
