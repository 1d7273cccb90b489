// RMSNorm forward and backward, a block per row.
//
// A row that fits shared memory waits there between its two uses, so that every element is read once and written once;
// a longer one is read a second time.
#include "device.cuh"
#include "kernels.h"

namespace phi3tune::kernels {
namespace {

constexpr int kThreads = 256;
constexpr size_t kMostHeld = 48 * 1024;  // bytes; leaves two blocks or more to an SM of every generation

// kHeld: 16 bytes at a time, the row waits in shared memory; kVector: 16 bytes at a time; kElement: any width.
enum class Row { kHeld, kVector, kElement };

template <class T, Row kRow, bool kAdd>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(T* __restrict__ y, int64_t ld_y, float* __restrict__ rstd, T* sum, const T* x, int64_t ld_x,
                    const T* delta, const T* __restrict__ weight, int dim, float eps) {
  constexpr int kWidth = kRow == Row::kElement ? 1 : kVectorWidth<T>;
  T* held = dynamic_shared<T>();
  const int64_t row = blockIdx.x;
  x += row * ld_x;
  y += row * ld_y;
  if constexpr (kAdd) {
    sum += row * dim;
    delta += row * dim;
  }

  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x) * kWidth; i < dim; i += kThreads * kWidth) {
    float values[kWidth];
    load(values, x + i);
    if constexpr (kAdd) {
      float more[kWidth];
      load(more, delta + i);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) values[k] = rounded<T>(values[k] + more[k]);
      store(sum + i, values);
    }
    if constexpr (kRow == Row::kHeld) store(held + i, values);
#pragma unroll
    for (const float value : values) squares += value * value;
  }
  const float mean = block_sum<kThreads>(squares) / static_cast<float>(dim);
  const float scale = __fdiv_rn(1.0f, __fsqrt_rn(mean + eps));
  if (threadIdx.x == 0) rstd[row] = scale;

  const T* again = kRow == Row::kHeld ? held : kAdd ? sum : x;  // each thread reads what itself wrote
  for (int i = static_cast<int>(threadIdx.x) * kWidth; i < dim; i += kThreads * kWidth) {
    float values[kWidth], weights[kWidth];
    load(values, again + i);
    load(weights, weight + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) values[k] = weights[k] * rounded<T>(values[k] * scale);
    store(y + i, values);
  }
}

template <class T, Row kRow>
__global__ void __launch_bounds__(kThreads)
    rms_norm_backward_kernel(T* __restrict__ dx, int64_t ld_dx, const T* __restrict__ dy, int64_t ld_dy,
                             const T* __restrict__ x, int64_t ld_x, const float* __restrict__ rstd,
                             const T* __restrict__ weight, int dim) {
  constexpr int kWidth = kRow == Row::kElement ? 1 : kVectorWidth<T>;
  // Left to itself, the compiler takes four rounds at once and spills.
  constexpr int kUnrolled = sizeof(T) == 4 ? 2 : 1;
  T* held_dy = dynamic_shared<T>();
  T* held_x = held_dy + dim;
  const int64_t row = blockIdx.x;
  dx += row * ld_dx;
  dy += row * ld_dy;
  x += row * ld_x;

  float products = 0;
#pragma unroll kUnrolled
  for (int i = static_cast<int>(threadIdx.x) * kWidth; i < dim; i += kThreads * kWidth) {
    float gradients[kWidth], values[kWidth], weights[kWidth];
    load(gradients, dy + i);
    load(values, x + i);
    load(weights, weight + i);
    if constexpr (kRow == Row::kHeld) {
      store(held_dy + i, gradients);
      store(held_x + i, values);
    }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) products += weights[k] * gradients[k] * values[k];
  }
  const float scale = rstd[row];
  const float along = scale * scale * scale * (block_sum<kThreads>(products) / static_cast<float>(dim));

  const T* dy_again = kRow == Row::kHeld ? held_dy : dy;
  const T* x_again = kRow == Row::kHeld ? held_x : x;
  for (int i = static_cast<int>(threadIdx.x) * kWidth; i < dim; i += kThreads * kWidth) {
    float gradients[kWidth], values[kWidth], weights[kWidth], sums[kWidth];
    load(gradients, dy_again + i);
    load(values, x_again + i);
    load(weights, weight + i);
    load(sums, dx + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) sums[k] += weights[k] * gradients[k] * scale - values[k] * along;
    store(dx + i, sums);
  }
}

Row way_of(bool vectors, size_t bytes) {
  if (!vectors) return Row::kElement;
  return bytes <= kMostHeld ? Row::kHeld : Row::kVector;
}

template <class T, bool kAdd>
cudaError_t launch_norm(T* y, int64_t ld_y, float* rstd, T* sum, const T* x, int64_t ld_x, const T* delta,
                        const T* weight, int64_t rows, int64_t dim, float eps, cudaStream_t stream) {
  if (rows == 0 || dim == 0) return cudaSuccess;
  const bool vectors = allows_vectors(y, ld_y) && allows_vectors(x, ld_x) && allows_vectors(weight, dim) &&
                       (!kAdd || (allows_vectors(sum, dim) && allows_vectors(delta, dim)));
  const size_t bytes = static_cast<size_t>(dim) * sizeof(T);
  const Row way = way_of(vectors, bytes);
  const auto kernel = way == Row::kHeld     ? rms_norm_kernel<T, Row::kHeld, kAdd>
                      : way == Row::kVector ? rms_norm_kernel<T, Row::kVector, kAdd>
                                            : rms_norm_kernel<T, Row::kElement, kAdd>;
  return launch(kernel, dim3(static_cast<unsigned>(rows)), kThreads, way == Row::kHeld ? bytes : 0, stream, y, ld_y,
                rstd, sum, x, ld_x, delta, weight, static_cast<int>(dim), eps);
}

}  // namespace

template <typename T>
cudaError_t rms_norm(T* y, int64_t ld_y, float* rstd, const T* x, int64_t ld_x, const T* weight, int64_t rows,
                     int64_t dim, float eps, cudaStream_t stream) {
  return launch_norm<T, false>(y, ld_y, rstd, nullptr, x, ld_x, nullptr, weight, rows, dim, eps, stream);
}

template <typename T>
cudaError_t add_rms_norm(T* y, int64_t ld_y, float* rstd, T* sum, const T* residual, const T* delta, const T* weight,
                         int64_t rows, int64_t dim, float eps, cudaStream_t stream) {
  return launch_norm<T, true>(y, ld_y, rstd, sum, residual, dim, delta, weight, rows, dim, eps, stream);
}

template <typename T>
cudaError_t rms_norm_backward(T* dx, int64_t ld_dx, const T* dy, int64_t ld_dy, const T* x, int64_t ld_x,
                              const float* rstd, const T* weight, int64_t rows, int64_t dim, cudaStream_t stream) {
  if (rows == 0 || dim == 0) return cudaSuccess;
  const bool vectors =
      allows_vectors(dx, ld_dx) && allows_vectors(dy, ld_dy) && allows_vectors(x, ld_x) && allows_vectors(weight, dim);
  const size_t bytes = static_cast<size_t>(dim) * 2 * sizeof(T);
  const Row way = way_of(vectors, bytes);
  const auto kernel = way == Row::kHeld     ? rms_norm_backward_kernel<T, Row::kHeld>
                      : way == Row::kVector ? rms_norm_backward_kernel<T, Row::kVector>
                                            : rms_norm_backward_kernel<T, Row::kElement>;
  return launch(kernel, dim3(static_cast<unsigned>(rows)), kThreads, way == Row::kHeld ? bytes : 0, stream, dx, ld_dx,
                dy, ld_dy, x, ld_x, rstd, weight, static_cast<int>(dim));
}

#define PHI3TUNE_INSTANTIATE(T)                                                                                     \
  template cudaError_t rms_norm(T*, int64_t, float*, const T*, int64_t, const T*, int64_t, int64_t, float,          \
                                cudaStream_t);                                                                      \
  template cudaError_t add_rms_norm(T*, int64_t, float*, T*, const T*, const T*, const T*, int64_t, int64_t, float, \
                                    cudaStream_t);                                                                  \
  template cudaError_t rms_norm_backward(T*, int64_t, const T*, int64_t, const T*, int64_t, const float*, const T*, \
                                         int64_t, int64_t, cudaStream_t);
PHI3TUNE_INSTANTIATE(bf16)
PHI3TUNE_INSTANTIATE(float)
#undef PHI3TUNE_INSTANTIATE

}  // namespace phi3tune::kernels
