// Products of so few rows that reading the weight takes all the time.
#pragma once

#include <ATen/core/Tensor.h>

namespace phi3tune::ops::cpu {

// y [M, O] = x [M, K] weight^T, M <= kFewRows of ops.h; each row with bits of its own, whatever rows are beside it.
void few_rows_linear(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight);

}  // namespace phi3tune::ops::cpu
