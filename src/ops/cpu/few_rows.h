// Products of so few rows that reading the weight takes all the time.
#pragma once

#include <ATen/core/Tensor.h>

namespace phi3tune::ops::cpu {

// Where few_rows_linear() is faster than ATen: up to 8 rows in bfloat16, whose matrix units lose to it only while they
// wait for the weight, else up to kFewRows of ops.h.
bool has_few_rows(const at::Tensor& x);
// y [M, O] = x [M, K] weight^T; each row with bits of its own, whatever rows are beside it.
void few_rows_linear(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight);

}  // namespace phi3tune::ops::cpu
