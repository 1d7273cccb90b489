// The norm and the update: decisions stay on the device, nothing is waited for.
#include <ATen/ATen.h>

#include <cmath>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"

namespace phi3tune::cuda {

static_assert(ops::kNormBlock == kernels::kNormBlock);

void step_norm(const Tensor& control, const Tensor& norm, const Tensor& losses, const Tensor& partials,
               const Tensor& gradients, double max_norm) {
  if (gradients.scalar_type() != at::kFloat) {
    refuse_dtype("step_norm", gradients.scalar_type());
  }
  const kernels::StepControl step{.control = data<double>(control),
                                  .norm = data<double>(norm),
                                  .losses = data<double>(losses),
                                  .micro_batches = static_cast<int>(losses.size(0)),
                                  .max_norm = max_norm};
  launched("step_norm",
           kernels::step_norm(step, data<double>(partials), data<float>(gradients), gradients.numel(), stream()),
           {&gradients});
}

void adamw(const Tensor& parameters, const Tensor& gradients, const Tensor& moment1, const Tensor& moment2,
           const Tensor& copy, const AdamWStep& step, const Tensor& control) {
  if (parameters.scalar_type() != at::kFloat) {
    refuse_dtype("adamw", parameters.scalar_type());
  }
  const double correction1 = 1.0 - std::pow(step.beta1, static_cast<double>(step.step));
  const double correction2 = 1.0 - std::pow(step.beta2, static_cast<double>(step.step));
  const kernels::AdamWConstants constants{.decay = 1.0 - step.learning_rate * step.weight_decay,
                                          .one_minus_beta1 = 1.0 - step.beta1,
                                          .beta2 = step.beta2,
                                          .one_minus_beta2 = 1.0 - step.beta2,
                                          .inverse_sqrt_correction2 = 1.0 / std::sqrt(correction2),
                                          .epsilon = step.epsilon,
                                          .rate = step.learning_rate / correction1};
  const bool rounded = copy.defined() && copy.scalar_type() == at::kBFloat16;
  launched("adamw",
           kernels::adamw(data<float>(parameters), data<float>(gradients), data<float>(moment1), data<float>(moment2),
                          rounded ? data<bf16>(copy) : nullptr, parameters.numel(), constants, data<double>(control),
                          stream()),
           {&parameters});
  if (copy.defined() && !rounded) {
    convert(copy, parameters);  // after a bad step the parameters are still the old ones
  }
}

}  // namespace phi3tune::cuda
