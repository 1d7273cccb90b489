// Products of matrices, of any size from zero.
#pragma once

#include <ATen/core/Tensor.h>

namespace phi3tune::cuda {

// c = alpha * a b + beta * c, as platform::gemm; sizes may be zero. Counted.
void gemm(const char* op, const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, double alpha = 1.0,
          double beta = 0.0);

}  // namespace phi3tune::cuda
