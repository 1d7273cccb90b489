// What DoRA does to the columns of a product: each output of a linear has a factor of its own. On the CPU alone.
//
// Axes and dtypes as in ops.h: M tokens, O outputs; statistics and gradients are wide.
#pragma once

#include <ATen/core/Tensor.h>

namespace phi3tune::ops {

// out [M, O] = x [M, O] * factors [O] (wide), rounded to the compute dtype. out may be x.
void scale_columns(const at::Tensor& out, const at::Tensor& x, const at::Tensor& factors);

// sums [O] (wide) += (sum over rows of x * y) / divisors [O] (wide); x, y [M, O]; the sum is in float64.
void column_products(const at::Tensor& sums, const at::Tensor& x, const at::Tensor& y, const at::Tensor& divisors);

}  // namespace phi3tune::ops
