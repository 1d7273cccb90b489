#include "phi3tune/train/optimizer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/ops/ops.h"

namespace phi3tune::train {

AdamW::AdamW(at::Tensor parameters, at::Tensor gradients, const config::ScheduleOptions& options)
    : parameters_(std::move(parameters)),
      gradients_(std::move(gradients)),
      beta1_(options.adam_beta1),
      beta2_(options.adam_beta2),
      epsilon_(options.adam_epsilon),
      weight_decay_(options.weight_decay) {
  require(parameters_.sizes() == gradients_.sizes() && parameters_.scalar_type() == gradients_.scalar_type(),
          "the optimizer's gradients do not fit its parameters");
  state_.moment1 = at::zeros_like(parameters_);
  state_.moment2 = at::zeros_like(parameters_);
}

double AdamW::gradient_norm() const { return std::sqrt(ops::sum_of_squares(gradients_)); }

void AdamW::update(double learning_rate, double gradient_scale) {
  ops::AdamWStep step;
  step.learning_rate = learning_rate;
  step.beta1 = beta1_;
  step.beta2 = beta2_;
  step.epsilon = epsilon_;
  step.weight_decay = weight_decay_;
  step.step = ++state_.step;
  step.gradient_scale = gradient_scale;
  ops::adamw(parameters_, gradients_, state_.moment1, state_.moment2, step);
}

double clip_scale(double norm, double max_norm) noexcept {
  return max_norm > 0.0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0;
}

}  // namespace phi3tune::train
