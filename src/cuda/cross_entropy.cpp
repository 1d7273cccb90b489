#include <ATen/ATen.h>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"

namespace phi3tune::cuda {

void cross_entropy(const Tensor& sums, const Tensor& row_losses, const Tensor& logits, const Tensor& targets,
                   const Tensor& weights, double gradient_scale, bool gradient) {
  float* const loss = data<float>(row_losses);
  float* const correct = loss + ld(row_losses);
  const int64_t rows = logits.size(0);
  with_dtype("cross_entropy", logits.scalar_type(), [&]<typename T>(T) {
    launched("cross_entropy",
             kernels::cross_entropy<T>(loss, correct, data<T>(logits), ld(logits), data<int64_t>(targets),
                                       data<float>(weights), gradient_scale, gradient, rows, logits.size(1), stream()),
             {&logits});
  });
  launched("cross_entropy",
           kernels::add_losses(data<double>(sums), loss, correct, data<float>(weights), rows, stream()), {&logits});
}

}  // namespace phi3tune::cuda
