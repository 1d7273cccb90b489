// SwiGLU forward and backward, a block per row. Each thread reads its elements before it writes in their place.
#include "device.cuh"
#include "kernels.h"

namespace phi3tune::kernels {
namespace {

constexpr int kThreads = 256;

// 1 / (1 + exp(-x)). For bf16 the fast exponential and division: their error is far below a rounding to bf16.
template <class T>
__device__ __forceinline__ float sigmoid(float x) {
  if constexpr (sizeof(T) == 2) {
    return __fdividef(1.0f, 1.0f + __expf(-x));
  } else {
    return 1.0f / (1.0f + expf(-x));
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) swiglu_kernel(T* __restrict__ hidden, int64_t ld_hidden,
                                                          const T* __restrict__ gate_up, int64_t ld_gate_up, int dim) {
  const int64_t row = blockIdx.x;
  const T* gate = gate_up + row * ld_gate_up;
  const T* up = gate + dim;
  hidden += row * ld_hidden;
  for (int i = static_cast<int>(threadIdx.x) * kWidth; i < dim; i += kThreads * kWidth) {
    float gates[kWidth], ups[kWidth];
    load(gates, gate + i);
    load(ups, up + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) ups[k] *= rounded<T>(gates[k] * sigmoid<T>(gates[k]));
    store(hidden + i, ups);
  }
}

// d_gate_up may be gate_up, and hidden d_hidden: nothing is __restrict__.
template <class T, int kWidth, bool kHidden>
__global__ void __launch_bounds__(kThreads)
    swiglu_backward_kernel(T* d_gate_up, int64_t ld_d_gate_up, T* hidden, int64_t ld_hidden, const T* d_hidden,
                           int64_t ld_d_hidden, const T* gate_up, int64_t ld_gate_up, int dim) {
  const int64_t row = blockIdx.x;
  const T* gate = gate_up + row * ld_gate_up;
  T* d_gate = d_gate_up + row * ld_d_gate_up;
  d_hidden += row * ld_d_hidden;
  if constexpr (kHidden) hidden += row * ld_hidden;
  for (int i = static_cast<int>(threadIdx.x) * kWidth; i < dim; i += kThreads * kWidth) {
    float gates[kWidth], ups[kWidth], gradients[kWidth], products[kWidth];
    load(gates, gate + i);
    load(ups, gate + dim + i);
    load(gradients, d_hidden + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const float g = gates[k], u = ups[k], share = sigmoid<T>(g);
      const float silu = g * share;
      products[k] = u * rounded<T>(silu);
      gates[k] = gradients[k] * u * (share * (1.0f + g * (1.0f - share)));
      ups[k] = gradients[k] * silu;
    }
    store(d_gate + i, gates);
    store(d_gate + dim + i, ups);
    if constexpr (kHidden) store(hidden + i, products);
  }
}

}  // namespace

template <typename T>
cudaError_t swiglu(T* hidden, int64_t ld_hidden, const T* gate_up, int64_t ld_gate_up, int64_t rows, int64_t dim,
                   cudaStream_t stream) {
  if (rows == 0 || dim == 0) return cudaSuccess;
  const bool vectors =
      allows_vectors(hidden, ld_hidden) && allows_vectors(gate_up, ld_gate_up) && dim % kVectorWidth<T> == 0;
  const auto kernel = vectors ? swiglu_kernel<T, kVectorWidth<T>> : swiglu_kernel<T, 1>;
  return launch(kernel, dim3(static_cast<unsigned>(rows)), kThreads, 0, stream, hidden, ld_hidden, gate_up, ld_gate_up,
                static_cast<int>(dim));
}

template <typename T>
cudaError_t swiglu_backward(T* d_gate_up, int64_t ld_d_gate_up, T* hidden, int64_t ld_hidden, const T* d_hidden,
                            int64_t ld_d_hidden, const T* gate_up, int64_t ld_gate_up, int64_t rows, int64_t dim,
                            cudaStream_t stream) {
  if (rows == 0 || dim == 0) return cudaSuccess;
  constexpr int kWidest = kVectorWidth<T>;
  const bool vectors = allows_vectors(d_gate_up, ld_d_gate_up) && allows_vectors(d_hidden, ld_d_hidden) &&
                       allows_vectors(gate_up, ld_gate_up) && dim % kWidest == 0 &&
                       (hidden == nullptr || allows_vectors(hidden, ld_hidden));
  const auto kernel = hidden != nullptr
                          ? (vectors ? swiglu_backward_kernel<T, kWidest, true> : swiglu_backward_kernel<T, 1, true>)
                          : (vectors ? swiglu_backward_kernel<T, kWidest, false> : swiglu_backward_kernel<T, 1, false>);
  return launch(kernel, dim3(static_cast<unsigned>(rows)), kThreads, 0, stream, d_gate_up, ld_d_gate_up, hidden,
                ld_hidden, d_hidden, ld_d_hidden, gate_up, ld_gate_up, static_cast<int>(dim));
}

#define PHI3TUNE_INSTANTIATE(T)                                                                                 \
  template cudaError_t swiglu(T*, int64_t, const T*, int64_t, int64_t, int64_t, cudaStream_t);                  \
  template cudaError_t swiglu_backward(T*, int64_t, T*, int64_t, const T*, int64_t, const T*, int64_t, int64_t, \
                                       int64_t, cudaStream_t);
PHI3TUNE_INSTANTIATE(bf16)
PHI3TUNE_INSTANTIATE(float)
#undef PHI3TUNE_INSTANTIATE

}  // namespace phi3tune::kernels
