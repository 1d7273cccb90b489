// Softmax cross-entropy and its gradient, a block per row: one pass for the maximum and the sum, one to write. And the
// sums over rows.
#include <cfloat>
#include <climits>

#include "device.cuh"
#include "kernels.h"

namespace phi3tune::kernels {
namespace {

constexpr int kThreads = 512;
constexpr int kSumThreads = 256;

// The sum of exp(x - peak) over what was seen. A peak is never below the lowest finite number: with -inf as its start,
// exp(-inf + inf) would turn rows with -inf logits into NaN, and a test for that would hide a NaN that is real.
struct Softmax {
  float peak = -FLT_MAX;
  float sum = 0;
};

__device__ __forceinline__ Softmax merge(Softmax a, Softmax b) {
  const float peak = fmaxf(a.peak, b.peak);
  return {peak, a.sum * __expf(a.peak - peak) + b.sum * __expf(b.peak - peak)};
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(float* __restrict__ loss, float* __restrict__ correct, T* logits, int64_t ld,
                         const int64_t* __restrict__ targets, const float* __restrict__ weights, double gradient_scale,
                         bool gradient, int vocab) {
  __shared__ Softmax partial[kThreads / 32];
  T* row = logits + int64_t{blockIdx.x} * ld;
  const int target = static_cast<int>(targets[blockIdx.x]);
  const float at_target = to_float(row[target]);

  Softmax mine;
  bool beaten = at_target != at_target;  // a logit is larger than the target's, or as large and before it
  for (int i = static_cast<int>(threadIdx.x) * kWidth; i < vocab; i += kThreads * kWidth) {
    float values[kWidth];
    load(values, row + i);
    float largest = values[0];  // fmaxf passes NaN by; the sum keeps it
#pragma unroll
    for (int k = 1; k < kWidth; ++k) largest = fmaxf(largest, values[k]);
    if (i + kWidth <= target) {
      beaten |= largest >= at_target;
    } else {
      beaten |= largest > at_target;
      if (i < target) {
#pragma unroll
        for (int k = 0; k < kWidth; ++k) beaten |= i + k < target && values[k] >= at_target;
      }
    }
    const float peak = fmaxf(mine.peak, largest);
    float sum = mine.sum * __expf(mine.peak - peak);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) sum += __expf(values[k] - peak);
    mine = {peak, sum};
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const Softmax other{__shfl_xor_sync(kFullWarp, mine.peak, lanes), __shfl_xor_sync(kFullWarp, mine.sum, lanes)};
    mine = merge(mine, other);
  }
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = mine;
  beaten = __syncthreads_or(beaten);  // partials are complete, and the target's logit is read by all
  Softmax all;
#pragma unroll
  for (int warp = 0; warp < kThreads / 32; ++warp) all = merge(all, partial[warp]);
  if (threadIdx.x == 0) {
    loss[blockIdx.x] = all.peak - at_target + logf(all.sum);
    correct[blockIdx.x] = beaten ? 0.0f : 1.0f;
  }
  if (!gradient) return;

  const float scale = static_cast<float>(weights[blockIdx.x] * gradient_scale);
  const float factor = scale / all.sum;
  for (int i = static_cast<int>(threadIdx.x) * kWidth; i < vocab; i += kThreads * kWidth) {
    float values[kWidth];
    load(values, row + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) values[k] = __expf(values[k] - all.peak) * factor;
    store(row + i, values);
  }
  if (static_cast<int>(threadIdx.x) == target / kWidth % kThreads) {  // the thread that has just written there
    row[target] = from_float<T>(scale * (__expf(at_target - all.peak) / all.sum - 1.0f));
  }
}

__global__ void __launch_bounds__(kSumThreads)
    add_losses_kernel(double* __restrict__ sums, const float* __restrict__ loss, const float* __restrict__ correct,
                      const float* __restrict__ weights, int64_t rows) {
  double weighted = 0, hits = 0;
  for (int64_t row = threadIdx.x; row < rows; row += kSumThreads) {
    weighted += static_cast<double>(weights[row]) * static_cast<double>(loss[row]);  // the product is exact
    hits += static_cast<double>(correct[row]);
  }
  weighted = block_sum<kSumThreads>(weighted);
  hits = block_sum<kSumThreads>(hits);
  if (threadIdx.x == 0) {
    sums[0] += weighted;
    sums[1] += hits;
  }
}

}  // namespace

template <typename T>
cudaError_t cross_entropy(float* loss, float* correct, T* logits, int64_t ld_logits, const int64_t* targets,
                          const float* weights, double gradient_scale, bool gradient, int64_t rows, int64_t vocab,
                          cudaStream_t stream) {
  if (rows == 0 || vocab == 0) return cudaSuccess;
  constexpr int kWidth = kVectorWidth<T>;
  if (rows > INT_MAX || vocab > INT_MAX - kThreads * kWidth) return cudaErrorInvalidValue;
  const bool vectors = vocab % kWidth == 0 && allows_vectors(logits, rows == 1 ? vocab : ld_logits);
  const auto kernel = vectors ? cross_entropy_kernel<kWidth, T> : cross_entropy_kernel<1, T>;
  return launch(kernel, dim3(static_cast<unsigned>(rows)), kThreads, 0, stream, loss, correct, logits, ld_logits,
                targets, weights, gradient_scale, gradient, static_cast<int>(vocab));
}

template cudaError_t cross_entropy(float*, float*, float*, int64_t, const int64_t*, const float*, double, bool, int64_t,
                                   int64_t, cudaStream_t);
template cudaError_t cross_entropy(float*, float*, bf16*, int64_t, const int64_t*, const float*, double, bool, int64_t,
                                   int64_t, cudaStream_t);

cudaError_t add_losses(double* sums, const float* loss, const float* correct, const float* weights, int64_t rows,
                       cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return launch(add_losses_kernel, dim3(1), kSumThreads, 0, stream, sums, loss, correct, weights, rows);
}

}  // namespace phi3tune::kernels
