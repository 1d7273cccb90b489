// Products with the frozen weights: oneDNN for bfloat16, MKL for float32 and float64, through ATen, except the bfloat16
// gradient, which the library's own product does at a third to a half of the speed of the forward.
#include <ATen/ATen.h>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/panels.h"

namespace phi3tune::ops::cpu {

void linear(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight) {
  at::Tensor out = y;
  at::mm_out(out, x, weight.t());
}

void linear_input_gradient(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& weight, bool accumulate) {
  if (dx.scalar_type() == at::kBFloat16 && has_panels(weight.size(0), weight.size(1))) {
    panel_product(dx, dy, weight, accumulate);
    return;
  }
  at::Tensor out = dx;
  if (accumulate) {
    at::addmm_out(out, dx, dy, weight);
  } else {
    at::mm_out(out, dy, weight);
  }
}

}  // namespace phi3tune::ops::cpu
