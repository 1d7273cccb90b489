// Products with the frozen weights: oneDNN for bfloat16, MKL for float32 and float64, both through ATen.
#include <ATen/ATen.h>

#include "ops/cpu/cpu_ops.h"

namespace phi3tune::ops::cpu {

void linear(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight) {
  at::Tensor out = y;
  at::mm_out(out, x, weight.t());
}

void linear_input_gradient(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& weight, bool accumulate) {
  at::Tensor out = dx;
  if (accumulate) {
    at::addmm_out(out, dx, dy, weight);
  } else {
    at::mm_out(out, dy, weight);
  }
}

}  // namespace phi3tune::ops::cpu
