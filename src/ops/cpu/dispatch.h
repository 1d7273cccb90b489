// From a tensor's dtype to the kernels' types.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/cpu/kernels.h"
#include "phi3tune/core/error.h"

namespace phi3tune::ops::cpu {

// The first element, as the kernels spell the type (bfloat16 as its 16 bits).
template <typename T>
T* data(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

// Calls f(kernels of the dtype, T{}, W{}) for float32, bfloat16 (T uint16_t) or float64.
template <typename F>
void with_kernels(at::ScalarType dtype, const F& f) {
  const KernelSet& set = kernels();
  switch (dtype) {
    case at::kFloat:
      return f(set.f32, float{}, float{});
    case at::kBFloat16:
      return f(set.bf16, uint16_t{}, float{});
    case at::kDouble:
      return f(set.f64, double{}, double{});
    default:
      throw InternalError("internal error: no CPU kernels for {}", c10::toString(dtype));
  }
}

// Rows per task: about 16,384 elements, so that small calls stay on one thread.
inline int64_t row_grain(int64_t elements_per_row) {
  return elements_per_row >= 16384 ? 1 : 16384 / (elements_per_row > 0 ? elements_per_row : 1);
}

}  // namespace phi3tune::ops::cpu
