// AdamW and the gradient's norm over flat buffers.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"

namespace phi3tune::ops::cpu {
namespace {

constexpr int64_t kBlock = 16384;  // elements of one partial sum, whatever the thread count

int64_t blocks_of(int64_t n) { return (n + kBlock - 1) / kBlock; }

template <typename W>
double blockwise_sum(const W* values, int64_t n, double (*sum)(const W*, int64_t)) {
  std::vector<double> partial(static_cast<size_t>(blocks_of(n)));
  at::parallel_for(0, blocks_of(n), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      partial[static_cast<size_t>(block)] = sum(values + block * kBlock, std::min(kBlock, n - block * kBlock));
    }
  });
  double total = 0.0;
  for (const double part : partial) {
    total += part;
  }
  return total;
}

template <typename W>
void blockwise_adamw(const at::Tensor& p, const at::Tensor& g, const at::Tensor& m, const at::Tensor& v,
                     const double* constants, void (*kernel)(W*, const W*, W*, W*, int64_t, const double*)) {
  at::parallel_for(0, p.numel(), kBlock, [&](int64_t begin, int64_t end) {
    kernel(data<W>(p) + begin, data<W>(g) + begin, data<W>(m) + begin, data<W>(v) + begin, end - begin, constants);
  });
}

}  // namespace

void adamw(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& moment1,
           const at::Tensor& moment2, const AdamWStep& step) {
  const double correction1 = 1.0 - std::pow(step.beta1, static_cast<double>(step.step));
  const double correction2 = 1.0 - std::pow(step.beta2, static_cast<double>(step.step));
  const double constants[8] = {1.0 - step.learning_rate * step.weight_decay,
                               1.0 - step.beta1,
                               step.beta2,
                               1.0 - step.beta2,
                               1.0 / std::sqrt(correction2),
                               step.epsilon,
                               step.learning_rate / correction1,
                               step.gradient_scale};
  if (parameters.scalar_type() == at::kDouble) {
    blockwise_adamw(parameters, gradients, moment1, moment2, constants, kernels().adamw_f64);
  } else {
    blockwise_adamw(parameters, gradients, moment1, moment2, constants, kernels().adamw_f32);
  }
}

double sum_of_squares(const at::Tensor& values) {
  if (values.scalar_type() == at::kDouble) {
    return blockwise_sum(data<const double>(values), values.numel(), kernels().sum_of_squares_f64);
  }
  return blockwise_sum(data<const float>(values), values.numel(), kernels().sum_of_squares_f32);
}

}  // namespace phi3tune::ops::cpu
