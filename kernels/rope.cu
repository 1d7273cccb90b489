// Rotary embedding in place, a block per row. A thread keeps its cosines and sines and walks over the heads.
#include "device.cuh"
#include "kernels.h"

namespace phi3tune::kernels {
namespace {

constexpr int kThreads = 256;  // at most; six blocks an SM cost no spill, 48 registers would leave five

// kWidth consecutive table entries; four or eight of them lie on a multiple of 16 bytes.
template <int kWidth>
__device__ __forceinline__ void load_table(float (&values)[kWidth], const float* __restrict__ from) {
  if constexpr (kWidth == 1) {
    values[0] = __ldg(from);
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; i += 4) {
      const float4 four = __ldg(reinterpret_cast<const float4*>(from + i));
      values[i] = four.x;
      values[i + 1] = four.y;
      values[i + 2] = four.z;
      values[i + 3] = four.w;
    }
  }
}

// `lanes` threads share a head, `heads_at_once` heads are turned at a time.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, 6)
    rope_kernel(T* __restrict__ qkv, int64_t ld, const float* __restrict__ cosine, const float* __restrict__ sine,
                int heads, int head_dim, int half, int lanes, int heads_at_once, float sign) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int first_head = static_cast<int>(threadIdx.x) / lanes;
  if (first_head >= heads_at_once) return;  // no barrier below
  const int64_t row = blockIdx.x;
  qkv += row * ld;
  cosine += row * half;
  sine += row * half;
  for (int i = lane * kWidth; i < half; i += lanes * kWidth) {
    float cosines[kWidth], sines[kWidth];
    load_table(cosines, cosine + i);
    load_table(sines, sine + i);
    for (int head = first_head; head < heads; head += heads_at_once) {
      T* at = qkv + static_cast<int64_t>(head) * head_dim + i;
      float first[kWidth], second[kWidth];
      load(first, at);
      load(second, at + half);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const float turn = sign * sines[k];
        const float a = first[k];
        first[k] = a * cosines[k] - second[k] * turn;
        second[k] = second[k] * cosines[k] + a * turn;
      }
      store(at, first);
      store(at + half, second);
    }
  }
}

}  // namespace

template <typename T>
cudaError_t rope(T* qkv, int64_t ld, const float* cosine, const float* sine, int64_t rows, int num_rotated,
                 int head_dim, int rotary_dim, bool inverse, cudaStream_t stream) {
  const int half = rotary_dim / 2;
  if (rows == 0 || num_rotated == 0 || half == 0) return cudaSuccess;
  constexpr int kWidest = kVectorWidth<T>;
  const bool vectors = allows_vectors(qkv, ld) && head_dim % kWidest == 0 && half % kWidest == 0 &&
                       allows_vectors(cosine, half) && allows_vectors(sine, half);
  const int pieces = vectors ? half / kWidest : half;
  const int lanes = pieces < kThreads ? pieces : kThreads;
  const int rounds = (num_rotated + kThreads / lanes - 1) / (kThreads / lanes);
  const int heads_at_once = (num_rotated + rounds - 1) / rounds;  // rounds of equal size: no nearly empty last one
  const int threads = (lanes * heads_at_once + 31) / 32 * 32;
  const auto kernel = vectors ? rope_kernel<T, kWidest> : rope_kernel<T, 1>;
  return launch(kernel, dim3(static_cast<unsigned>(rows)), threads, 0, stream, qkv, ld, cosine, sine, num_rotated,
                head_dim, half, lanes, heads_at_once, inverse ? -1.0f : 1.0f);
}

template cudaError_t rope(bf16*, int64_t, const float*, const float*, int64_t, int, int, int, bool, cudaStream_t);
template cudaError_t rope(float*, int64_t, const float*, const float*, int64_t, int, int, int, bool, cudaStream_t);

}  // namespace phi3tune::kernels
