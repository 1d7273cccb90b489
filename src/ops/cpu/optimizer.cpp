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

int64_t blocks_of(int64_t n) { return (n + kNormBlock - 1) / kNormBlock; }

// The sum of squares of each block into partials, and of all of them in order.
template <typename W>
double blockwise_sum(const W* values, int64_t n, double* partials, double (*sum)(const W*, int64_t)) {
  at::parallel_for(0, blocks_of(n), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      partials[block] = sum(values + block * kNormBlock, std::min(kNormBlock, n - block * kNormBlock));
    }
  });
  double total = 0.0;
  for (int64_t block = 0; block < blocks_of(n); ++block) {
    total += partials[block];
  }
  return total;
}

template <typename W>
void blockwise_adamw(const at::Tensor& p, const at::Tensor& g, const at::Tensor& m, const at::Tensor& v,
                     const double* constants, void (*kernel)(W*, const W*, W*, W*, int64_t, const double*)) {
  at::parallel_for(0, p.numel(), kNormBlock, [&](int64_t begin, int64_t end) {
    kernel(data<W>(p) + begin, data<W>(g) + begin, data<W>(m) + begin, data<W>(v) + begin, end - begin, constants);
  });
}

}  // namespace

void adamw(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& moment1,
           const at::Tensor& moment2, const at::Tensor& copy, const AdamWStep& step, const at::Tensor& control) {
  const auto* decided = data<const double>(control);
  if (decided[1] != 0.0) {
    return;
  }
  const double correction1 = 1.0 - std::pow(step.beta1, static_cast<double>(step.step));
  const double correction2 = 1.0 - std::pow(step.beta2, static_cast<double>(step.step));
  const double constants[8] = {1.0 - step.learning_rate * step.weight_decay,
                               1.0 - step.beta1,
                               step.beta2,
                               1.0 - step.beta2,
                               1.0 / std::sqrt(correction2),
                               step.epsilon,
                               step.learning_rate / correction1,
                               decided[0]};
  if (parameters.scalar_type() == at::kDouble) {
    blockwise_adamw(parameters, gradients, moment1, moment2, constants, kernels().adamw_f64);
  } else {
    blockwise_adamw(parameters, gradients, moment1, moment2, constants, kernels().adamw_f32);
  }
  if (copy.defined()) {
    at::Tensor(copy).copy_(parameters);
  }
}

void step_norm(const at::Tensor& control, const at::Tensor& norm, const at::Tensor& losses, const at::Tensor& partials,
               const at::Tensor& gradients, double max_norm) {
  const int64_t n = gradients.numel();
  auto* parts = data<double>(partials);
  const double squares = gradients.scalar_type() == at::kDouble
                             ? blockwise_sum(data<const double>(gradients), n, parts, kernels().sum_of_squares_f64)
                             : blockwise_sum(data<const float>(gradients), n, parts, kernels().sum_of_squares_f32);
  const double length = std::sqrt(squares);
  *data<double>(norm) = length;
  bool finite = std::isfinite(length);
  for (int64_t i = 0; i < losses.size(0); ++i) {
    finite = finite && std::isfinite(data<const double>(losses)[2 * i]);
  }
  auto* decided = data<double>(control);
  decided[0] = max_norm > 0.0 ? std::min(1.0, max_norm / (length + 1e-6)) : 1.0;
  if (!finite) {
    decided[1] = 1.0;
  }
}

}  // namespace phi3tune::ops::cpu
