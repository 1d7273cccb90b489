#include <ATen/core/Tensor.h>

#include "cuda/calls.h"
#include "cuda/device/algorithms.h"
#include "cuda/device/product.h"
#include "cuda/platform.h"

namespace phi3tune::cuda {

void platform::gemm(const char* op, const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, double alpha,
                    double beta) {
  const Product product(op, c, a, b, alpha, beta);
  const cudaStream_t on = stream();
  const cublasStatus_t status = product.run(algorithm_for(product, on), on);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
    product.check(product.run(first_candidate(product), on));  // sizes that share a choice differ a little
    return;
  }
  product.check(status);
}

}  // namespace phi3tune::cuda
