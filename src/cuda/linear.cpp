#include <ATen/ATen.h>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"
#include "cuda/gemm.h"
#include "cuda/platform.h"
#include "phi3tune/cuda/counters.h"

namespace phi3tune::cuda {

void gemm(const char* op, const Tensor& c, const Tensor& a, const Tensor& b, double alpha, double beta) {
  if (a.scalar_type() != at::kFloat && a.scalar_type() != at::kBFloat16) {
    refuse_dtype(op, a.scalar_type());
  }
  stream();  // binds the thread
  if (c.numel() == 0) {
    return;
  }
  if (a.size(1) == 0) {
    guarded(op, {&c}, [&] { beta == 0.0 ? Tensor(c).zero_() : Tensor(c).mul_(beta); });  // an empty sum
    return;
  }
  ++counters().gemms;
  platform::gemm(op, c, a, b, alpha, beta);
}

void linear(const Tensor& y, const Tensor& x, const LinearWeight& weight) { gemm("linear", y, x, weight.matrix.t()); }

void linear_input_gradient(const Tensor& dx, const Tensor& dy, const LinearWeight& weight) {
  gemm("linear_input_gradient", dx, dy, weight.matrix);
}

}  // namespace phi3tune::cuda
