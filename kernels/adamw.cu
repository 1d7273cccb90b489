// The optimizer's step over flat buffers: the gradients' norm and what follows from it, then AdamW.
//
// The norm is the same whatever the device: a block sums a fixed range in a fixed order, one thread sums the blocks.
// The update's arithmetic is spelled operation by operation, so that nothing is fused and its bits are those of plain
// float32.
#include "device.cuh"
#include "kernels.h"

namespace phi3tune::kernels {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ bool is_finite(double value) { return fabs(value) <= 1.7976931348623157e308; }

// Both variants hand the same elements to the same thread.
template <bool kVector>
__global__ void __launch_bounds__(kThreads)
    squares_kernel(double* __restrict__ partials, const float* __restrict__ gradients, int64_t n) {
  const int64_t begin = int64_t{blockIdx.x} * kNormBlock;
  const int64_t end = begin + kNormBlock < n ? begin + kNormBlock : n;
  double sum = 0;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x * 4; i < end; i += kThreads * 4) {
    float values[4] = {};
    if constexpr (kVector) {
      load(values, gradients + i);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) values[k] = i + k < end ? gradients[i + k] : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) sum += static_cast<double>(values[k]) * static_cast<double>(values[k]);  // exact
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    decide_kernel(StepControl step, const double* __restrict__ partials, int64_t count) {
  constexpr int kStaged = kThreads;
  __shared__ double staged[kStaged];
  bool bad = false;
  for (int i = threadIdx.x; i < step.micro_batches; i += kThreads) bad |= !is_finite(step.losses[2 * i]);
  bad = __syncthreads_or(bad);

  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kStaged) {
    const int size = static_cast<int>(count - begin < kStaged ? count - begin : kStaged);
    for (int i = threadIdx.x; i < size; i += kThreads) staged[i] = partials[begin + i];
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll 8
      for (int i = 0; i < size; ++i) total += staged[i];
    }
    __syncthreads();  // before the next ones are staged
  }
  if (threadIdx.x != 0) return;
  const double norm = sqrt(total);
  *step.norm = norm;
  const double scale = step.max_norm > 0 ? step.max_norm / (norm + 1e-6) : 1.0;
  step.control[0] = scale < 1.0 ? scale : 1.0;
  if (bad || !is_finite(norm)) step.control[1] = 1.0;
}

struct Constants {
  float decay, one_minus_beta1, beta2, one_minus_beta2, inverse_sqrt_correction2, epsilon, rate;
};

template <bool kVector>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(float* __restrict__ parameters, const float* __restrict__ gradients, float* __restrict__ moment1,
                 float* __restrict__ moment2, bf16* __restrict__ copy, int64_t n, Constants c,
                 const double* __restrict__ control) {
  constexpr int kWidth = kVector ? 4 : 1;
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth;
  if (i >= n || control[1] != 0) return;
  const float scale = static_cast<float>(control[0]);
  float p[kWidth], g[kWidth], m[kWidth], v[kWidth];
  load(p, parameters + i);
  load(g, gradients + i);
  load(m, moment1 + i);
  load(v, moment2 + i);
#pragma unroll
  for (int k = 0; k < kWidth; ++k) {
    const float gradient = __fmul_rn(g[k], scale);
    m[k] = __fadd_rn(m[k], __fmul_rn(__fsub_rn(gradient, m[k]), c.one_minus_beta1));
    v[k] = __fadd_rn(__fmul_rn(v[k], c.beta2), __fmul_rn(__fmul_rn(gradient, gradient), c.one_minus_beta2));
    const float denominator = __fadd_rn(__fmul_rn(__fsqrt_rn(v[k]), c.inverse_sqrt_correction2), c.epsilon);
    p[k] = __fsub_rn(__fmul_rn(p[k], c.decay), __fmul_rn(__fdiv_rn(m[k], denominator), c.rate));
  }
  store(moment1 + i, m);
  store(moment2 + i, v);
  store(parameters + i, p);
  if (copy == nullptr) return;
  if constexpr (kVector) {
    *reinterpret_cast<uint2*>(copy + i) = make_uint2(pack_two(p[0], p[1]), pack_two(p[2], p[3]));
  } else {
    copy[i] = from_float<bf16>(p[0]);
  }
}

}  // namespace

cudaError_t step_norm(const StepControl& step, double* partials, const float* gradients, int64_t n,
                      cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  const int64_t blocks = (n + kNormBlock - 1) / kNormBlock;
  if (blocks > 0x7fffffff) return cudaErrorInvalidValue;
  const auto kernel = allows_vectors(gradients, n) ? squares_kernel<true> : squares_kernel<false>;
  const cudaError_t status =
      launch(kernel, dim3(static_cast<unsigned>(blocks)), kThreads, 0, stream, partials, gradients, n);
  if (status != cudaSuccess) return status;
  return launch(decide_kernel, dim3(1), kThreads, 0, stream, step, partials, blocks);
}

cudaError_t adamw(float* parameters, const float* gradients, float* moment1, float* moment2, bf16* copy, int64_t n,
                  const AdamWConstants& constants, const double* control, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  const Constants c{static_cast<float>(constants.decay),
                    static_cast<float>(constants.one_minus_beta1),
                    static_cast<float>(constants.beta2),
                    static_cast<float>(constants.one_minus_beta2),
                    static_cast<float>(constants.inverse_sqrt_correction2),
                    static_cast<float>(constants.epsilon),
                    static_cast<float>(constants.rate)};
  const bool vectors = allows_vectors(parameters, n) && allows_vectors(gradients, n) && allows_vectors(moment1, n) &&
                       allows_vectors(moment2, n) && reinterpret_cast<uintptr_t>(copy) % 8 == 0;
  const int64_t per_block = kThreads * (vectors ? 4 : 1);
  const int64_t blocks = (n + per_block - 1) / per_block;
  if (blocks > 0x7fffffff) return cudaErrorInvalidValue;
  const auto kernel = vectors ? adamw_kernel<true> : adamw_kernel<false>;
  return launch(kernel, dim3(static_cast<unsigned>(blocks)), kThreads, 0, stream, parameters, gradients, moment1,
                moment2, copy, n, c, control);
}

}  // namespace phi3tune::kernels
