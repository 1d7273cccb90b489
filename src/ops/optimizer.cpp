// What runs once a step over flat buffers.
#include <ATen/ATen.h>

#include <cmath>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {
namespace {

void check_wide(const Check& check, const char* name, const at::Tensor& tensor) {
  check.that(check.compute_dtype(name, tensor) != at::kBFloat16, "wants float32 or float64");
}

}  // namespace

definition::AdamWState definition::adamw(const AdamWState& state, const at::Tensor& gradients, const AdamWStep& step) {
  const at::Tensor m = step.beta1 * state.moment1 + (1.0 - step.beta1) * gradients;
  const at::Tensor v = step.beta2 * state.moment2 + (1.0 - step.beta2) * gradients.square();
  const double correction1 = 1.0 - std::pow(step.beta1, static_cast<double>(step.step));
  const double correction2 = 1.0 - std::pow(step.beta2, static_cast<double>(step.step));
  const at::Tensor denominator = v.sqrt() / std::sqrt(correction2) + step.epsilon;
  const at::Tensor decayed = state.parameters * (1.0 - step.learning_rate * step.weight_decay);
  return {decayed - step.learning_rate / correction1 * m / denominator, m, v};
}

void adamw(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& moment1,
           const at::Tensor& moment2, const at::Tensor& copy, const AdamWStep& step, const at::Tensor& control) {
  const Check check("adamw");
  check_wide(check, "parameters", parameters);
  const at::ScalarType dtype = parameters.scalar_type();
  const int64_t n = check.size("parameters", parameters, 1, 0);
  check.tensor("parameters", parameters, dtype, {n});
  check.tensor("gradients", gradients, dtype, {n});
  check.tensor("moment1", moment1, dtype, {n});
  check.tensor("moment2", moment2, dtype, {n});
  if (copy.defined()) {
    check.tensor("copy", copy, check.compute_dtype("copy", copy), {n});
  }
  check.tensor("control", control, at::kDouble, {2});
  check.that(step.step >= 1, "steps count from 1");
  backend().adamw(parameters, gradients, moment1, moment2, copy, step, control);
}

void step_norm(const at::Tensor& control, const at::Tensor& norm, const at::Tensor& losses, const at::Tensor& partials,
               const at::Tensor& gradients, double max_norm) {
  const Check check("step_norm");
  check_wide(check, "gradients", gradients);
  const int64_t n = check.size("gradients", gradients, 1, 0);
  check.tensor("gradients", gradients, gradients.scalar_type(), {n});
  check.tensor("control", control, at::kDouble, {2});
  check.tensor("norm", norm, at::kDouble, {1});
  check.tensor("losses", losses, at::kDouble, {check.size("losses", losses, 2, 0), 2});
  check.tensor("partials", partials, at::kDouble, {(n + kNormBlock - 1) / kNormBlock});
  backend().step_norm(control, norm, losses, partials, gradients, max_norm);
}

void convert(const at::Tensor& out, const at::Tensor& in) {
  const Check check("convert");
  check.compute_dtype("in", in);
  check.that(in.is_contiguous(), "in is not contiguous");
  check.compute_dtype("out", out);
  check.that(out.is_contiguous(), "out is not contiguous");
  check.that(out.sizes() == in.sizes(), "shapes disagree");
  backend().convert(out, in);
}

}  // namespace phi3tune::ops
