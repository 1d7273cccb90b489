// Products with the frozen weights: oneDNN for bfloat16, MKL for float32 and float64, through ATen, except the bfloat16
// gradient, which the library's own product does at a third to a half of the speed of the forward, and few rows, whose
// products read the weight at less than what the memory gives.
#include <ATen/ATen.h>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/few_rows.h"
#include "ops/cpu/panels.h"

namespace phi3tune::ops::cpu {

void linear(const at::Tensor& y, const at::Tensor& x, const LinearWeight& weight) {
  if (has_few_rows(x)) {
    few_rows_linear(y, x, weight.matrix);
    return;
  }
  at::Tensor out = y;
  at::mm_out(out, x, weight.matrix.t());
}

void linear_input_gradient(const at::Tensor& dx, const at::Tensor& dy, const LinearWeight& weight) {
  if (dx.scalar_type() == at::kBFloat16 && has_panels(weight.matrix.size(0), weight.matrix.size(1))) {
    panel_product(dx, dy, weight.matrix);
    return;
  }
  at::Tensor out = dx;
  at::mm_out(out, dy, weight.matrix);
}

}  // namespace phi3tune::ops::cpu
