// Cross-entropy row by row; the sums over rows are taken in order, in float64.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"

namespace phi3tune::ops::cpu {

void cross_entropy(const at::Tensor& sums, const at::Tensor& /*row_losses*/, const at::Tensor& logits,
                   const at::Tensor& targets, const at::Tensor& weights, double gradient_scale, bool gradient) {
  const int64_t rows = logits.size(0);
  const int64_t vocabulary = logits.size(1);
  const auto* target = data<const int64_t>(targets);
  const auto count = static_cast<size_t>(rows);
  std::vector<double> weight(count), factors(count), losses(count);
  std::vector<uint8_t> correct(count);
  for (size_t row = 0; row < count; ++row) {
    weight[row] = weights.scalar_type() == at::kDouble ? data<const double>(weights)[row]
                                                       : static_cast<double>(data<const float>(weights)[row]);
    factors[row] = weight[row] * gradient_scale;
  }
  with_kernels(logits.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, rows, row_grain(vocabulary), [&](int64_t begin, int64_t end) {
      k.cross_entropy(data<T>(logits) + begin * vocabulary, losses.data() + begin, correct.data() + begin,
                      target + begin, factors.data() + begin, end - begin, vocabulary, gradient);
    });
  });
  double loss = 0.0;
  double right = 0.0;
  for (size_t row = 0; row < count; ++row) {
    loss += weight[row] * losses[row];
    right += correct[row];
  }
  auto* total = data<double>(sums);
  total[0] += loss;
  total[1] += right;
}

}  // namespace phi3tune::ops::cpu
