#include <ATen/core/Tensor.h>

#include "cuda/calls.h"
#include "cuda/device/algorithms.h"
#include "cuda/device/product.h"
#include "cuda/platform.h"

namespace phi3tune::cuda {

void platform::gemm(const char* op, const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, double alpha,
                    double beta) {
  const Product product(op, c, a, b, alpha, beta);
  product.check(product.run(algorithm_for(product), stream()));
}

}  // namespace phi3tune::cuda
