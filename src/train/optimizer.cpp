#include "phi3tune/train/optimizer.h"

#include <ATen/ATen.h>

#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/ops/ops.h"
#include "phi3tune/plan/run_plan.h"

namespace phi3tune::train {

AdamW::AdamW(at::Tensor parameters, at::Tensor gradients, at::Tensor copy, const config::ScheduleOptions& options,
             model::Arena& arena, std::vector<RateRun> rates)
    : parameters_(std::move(parameters)),
      gradients_(std::move(gradients)),
      copy_(std::move(copy)),
      rates_(std::move(rates)),
      beta1_(options.adam_beta1),
      beta2_(options.adam_beta2),
      epsilon_(options.adam_epsilon),
      weight_decay_(options.weight_decay) {
  require(parameters_.sizes() == gradients_.sizes() && parameters_.scalar_type() == gradients_.scalar_type(),
          "the optimizer's gradients do not fit its parameters");
  plan::StepShape shape;
  shape.wide_size = parameters_.element_size();
  const int64_t count = parameters_.numel();
  const auto buffers = plan::declare_optimizer(count, shape);
  const auto block = arena.part(plan::Part::kOptimizer, buffers.bytes);
  state_.moment1 = model::view(block, buffers.moment1, parameters_.scalar_type(), count);
  state_.moment2 = model::view(block, buffers.moment2, parameters_.scalar_type(), count);
  if (rates_.empty()) {
    rates_.push_back({count, 1.0});
  }
  int64_t rated = 0;
  for (const auto& run : rates_) {
    rated += run.count;
  }
  require(rated == count, "every parameter has a learning rate");
  state_.moment1.zero_();
  state_.moment2.zero_();
}

void AdamW::update(double learning_rate, const at::Tensor& control) {
  ops::AdamWStep step;
  step.beta1 = beta1_;
  step.beta2 = beta2_;
  step.epsilon = epsilon_;
  step.weight_decay = weight_decay_;
  step.step = ++state_.step;
  int64_t begin = 0;
  for (const auto& run : rates_) {
    const auto part = [&](const at::Tensor& flat) {
      return flat.defined() && rates_.size() > 1 ? flat.narrow(0, begin, run.count) : flat;
    };
    step.learning_rate = learning_rate * run.factor;
    ops::adamw(part(parameters_), part(gradients_), part(state_.moment1), part(state_.moment2), part(copy_), step,
               control);
    begin += run.count;
  }
}

}  // namespace phi3tune::train
