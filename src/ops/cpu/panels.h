// Products of bfloat16 matrices summed in float32, by oneDNN's matrix micro-kernels on packed panels (AMX where there
// is one). For the shapes that the library's own matrix product is slow at: a right side whose rows are contiguous.
#pragma once

#include <ATen/core/Tensor.h>

namespace phi3tune::ops::cpu {

// Whether this processor has the micro-kernels and they take the shape: depth and columns are multiples of 64.
bool has_panels(int64_t depth, int64_t columns);

// c [M, N] = a [M, K] b [K, N], rounded once at the end.
void panel_product(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b);

}  // namespace phi3tune::ops::cpu
