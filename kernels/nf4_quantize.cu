// Weights to NF4, once per weight when a model is loaded: one pass over the weights, and with double quantisation two
// over their absmax. Every product and sum is spelled with its rounding, so that none is fused.
#include <cuda_fp16.h>

#include "device.cuh"
#include "kernels.h"

namespace phi3tune::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 8;                          // neighbours that a thread encodes into four bytes
constexpr int kSteps = 2;                          // groups of a thread
constexpr int kTile = kThreads * kSteps * kGroup;  // weights; a multiple of every block size
constexpr int kSpan = 32 * kGroup;                 // weights of a warp's step
constexpr int kSpans = kTile / kSpan;              // of a tile
constexpr int kNestedBlock = 256;                  // absmax values that share a scale
constexpr int kStaged = 8 * kThreads;              // absmax values that wait to be added
constexpr unsigned kInfinity = 0x7f800000u;        // a magnitude from here on is not finite
static_assert(kTile == 4096 && kNestedBlock == kThreads);

// Midpoints of neighbouring codes; a value above none of them has code 0.
__constant__ const float kThresholds[15] = {
    -0.8480963706970215f,  -0.6106328964233398f,   -0.4599952697753906f, -0.33967941999435425f, -0.23460740850997925f,
    -0.13791173696517944f, -0.045525018125772476f, 0.03979014977812767f, 0.120255246758461f,    0.2035212516784668f,
    0.2920137643814087f,   0.3893125355243683f,    0.5016634464263916f,  0.6427869200706482f,   0.8614784479141235f};

template <Source kSource>
__device__ __forceinline__ float element(const void* weights, int64_t at) {
  if constexpr (kSource == Source::kFloat32) {
    return static_cast<const float*>(weights)[at];
  } else if constexpr (kSource == Source::kBfloat16) {
    return to_float(static_cast<const bf16*>(weights)[at]);
  } else {
    return __half2float(static_cast<const __half*>(weights)[at]);
  }
}

// Eight neighbours, 16 bytes at a time; `at` is a multiple of eight.
template <Source kSource>
__device__ __forceinline__ void load_group(float (&values)[kGroup], const void* weights, int64_t at) {
  if constexpr (kSource == Source::kFloat32) {
    const auto* from = static_cast<const float*>(weights) + at;
    float low[4], high[4];
    load(low, from);
    load(high, from + 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[i] = low[i];
      values[i + 4] = high[i];
    }
  } else if constexpr (kSource == Source::kBfloat16) {
    load(values, static_cast<const bf16*>(weights) + at);
  } else {
    const uint4 packed = *reinterpret_cast<const uint4*>(static_cast<const __half*>(weights) + at);
    const unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[2 * i] = __half2float(__ushort_as_half(static_cast<unsigned short>(words[i] & 0xffffu)));
      values[2 * i + 1] = __half2float(__ushort_as_half(static_cast<unsigned short>(words[i] >> 16)));
    }
  }
}

__device__ __forceinline__ unsigned magnitude_of(float value) { return __float_as_uint(value) & 0x7fffffffu; }

// The two halves of a byte are neighbours, the first in the high one. A NaN (0 times infinity, in a block of zeros) is
// above no threshold: code 0.
__device__ __forceinline__ unsigned encode(const float (&values)[kGroup], float inverse) {
  unsigned word = 0;
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    const float x = __fmul_rn(values[i], inverse);
    unsigned code = 0;
#pragma unroll
    for (const float threshold : kThresholds) code += x > threshold ? 1u : 0u;
    word |= code << (i / 2 * 8 + (i % 2 == 0 ? 4 : 0));
  }
  return word;
}

// A thread block encodes a tile, a whole number of NF4 blocks. Magnitudes are compared as integers: infinity and NaN
// are above all others.
template <Source kSource, bool kVector>
__global__ void __launch_bounds__(kThreads)
    nf4_quantize_kernel(const Nf4Target target, const void* weights, int block_shift, int64_t size) {
  __shared__ unsigned span_largest[kSpans];
  const int64_t tile = int64_t{blockIdx.x} * kTile;
  float values[kSteps][kGroup];
  unsigned largest[kSteps];
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int64_t at = tile + (step * kThreads + static_cast<int>(threadIdx.x)) * kGroup;
    if (kVector && at + kGroup <= size) {
      load_group<kSource>(values[step], weights, at);
    } else {  // beyond the end zeros, so that an odd last element is packed with the code of zero
#pragma unroll
      for (int i = 0; i < kGroup; ++i) values[step][i] = at + i < size ? element<kSource>(weights, at + i) : 0.0f;
    }
    largest[step] = 0;
#pragma unroll
    for (const float value : values[step]) largest[step] = max(largest[step], magnitude_of(value));
    if (largest[step] >= kInfinity) {
      int first = 0;
#pragma unroll
      for (int i = kGroup - 1; i >= 0; --i) first = magnitude_of(values[step][i]) >= kInfinity ? i : first;
      atomicMin(target.first_not_finite, static_cast<long long>(at + first));
    }
  }

  const int block_threads = 1 << block_shift >> 3;  // that share an NF4 block
#pragma unroll
  for (int step = 0; step < kSteps; ++step)
    for (int lanes = 1; lanes < 32 && lanes < block_threads; lanes *= 2)
      largest[step] = max(largest[step], __shfl_xor_sync(kFullWarp, largest[step], lanes));
  if (block_threads > 32) {  // the same for all threads
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
      if (threadIdx.x % 32 == 0) span_largest[(step * kThreads + static_cast<int>(threadIdx.x)) / 32] = largest[step];
    __syncthreads();
    const int block_spans = block_threads / 32;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int mine = (step * kThreads + static_cast<int>(threadIdx.x)) / 32, first = mine / block_spans * block_spans;
      for (int span = first; span < first + block_spans; ++span) largest[step] = max(largest[step], span_largest[span]);
    }
  }

#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int64_t at = tile + (step * kThreads + static_cast<int>(threadIdx.x)) * kGroup;
    if (at >= size) break;
    const float absmax = __uint_as_float(largest[step]);
    const unsigned word = encode(values[step], __fdiv_rn(1.0f, absmax));
    uint8_t* to = target.codes + at / 2;
    if (kVector && at + kGroup <= size) {
      *reinterpret_cast<unsigned*>(to) = word;
    } else {
      for (int i = 0; i < kGroup / 2; ++i)
        if (at + 2 * i < size) to[i] = static_cast<uint8_t>(word >> 8 * i);
    }
    if ((at & ((int64_t{1} << block_shift) - 1)) == 0) target.absmax[at >> block_shift] = absmax;
  }
}

// The float64 mean in index order: one thread adds, while all bring the next values.
__global__ void __launch_bounds__(kThreads)
    nf4_offset_kernel(float* __restrict__ offset, const float* __restrict__ absmax, int64_t count) {
  __shared__ float staged[2][kStaged];
  const auto bring = [&](int64_t from) {
    float* to = staged[from / kStaged % 2];
#pragma unroll
    for (int i = 0; i < kStaged; i += kThreads) {
      const int at = i + static_cast<int>(threadIdx.x);
      if (from + at < count) to[at] = absmax[from + at];
    }
  };
  bring(0);
  __syncthreads();
  double sum = 0;
  for (int64_t from = 0; from < count; from += kStaged) {
    bring(from + kStaged);
    if (threadIdx.x == 0) {
      const float* values = staged[from / kStaged % 2];
      const int here = static_cast<int>(count - from < kStaged ? count - from : kStaged);
#pragma unroll 16
      for (int i = 0; i < here; ++i) sum = __dadd_rn(sum, static_cast<double>(values[i]));
    }
    __syncthreads();  // the next values are complete, these may be overwritten
  }
  if (threadIdx.x == 0) *offset = static_cast<float>(sum / static_cast<double>(count));
}

// dQuantize of bitsandbytes: seven halvings, then the midpoint towards the neighbour on x's side. NaN is code 0.
__device__ __forceinline__ uint8_t nearest(const float* map, float x) {
  int pivot = 127, upper = 255, lower = 0;
#pragma unroll
  for (int step = 64; step > 0; step /= 2) {
    if (x > map[pivot]) {
      lower = pivot;
      pivot += step;
    } else {
      upper = pivot;
      pivot -= step;
    }
  }
  const float value = map[pivot];
  const int other = x > value ? upper : lower;
  const float middle = __fmul_rn(__fadd_rn(map[other], value), 0.5f);
  return static_cast<uint8_t>((x > value ? x > middle : x < middle) ? other : pivot);
}

// A thread block encodes the absmax of one nested block.
__global__ void __launch_bounds__(kThreads) nf4_nested_kernel(const Nf4Target target, int64_t count) {
  __shared__ float map[256];
  __shared__ float warp_largest[kThreads / 32];
  map[threadIdx.x] = __ldg(target.nested_map + threadIdx.x);
  const int64_t at = int64_t{blockIdx.x} * kNestedBlock + threadIdx.x;
  const float centred = at < count ? __fsub_rn(target.absmax[at], *target.offset) : 0.0f;
  float largest = fabsf(centred);
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, lanes));
  if (threadIdx.x % 32 == 0) warp_largest[threadIdx.x / 32] = largest;
  __syncthreads();  // the map is complete too
#pragma unroll
  for (const float other : warp_largest) largest = fmaxf(largest, other);
  if (threadIdx.x == 0) target.nested_absmax[blockIdx.x] = largest;
  if (at < count) target.nested_codes[at] = nearest(map, __fmul_rn(centred, __fdiv_rn(1.0f, largest)));
}

template <Source kSource>
cudaError_t quantize(const Nf4Target& target, const void* weights, int block_shift, int64_t size, cudaStream_t stream) {
  const bool vectors = reinterpret_cast<uintptr_t>(weights) % 16 == 0 &&
                       reinterpret_cast<uintptr_t>(target.codes) % sizeof(unsigned) == 0;
  const auto kernel = vectors ? nf4_quantize_kernel<kSource, true> : nf4_quantize_kernel<kSource, false>;
  return launch(kernel, dim3(static_cast<unsigned>((size + kTile - 1) / kTile)), kThreads, 0, stream, target, weights,
                block_shift, size);
}

}  // namespace

cudaError_t nf4_quantize(const Nf4Target& target, const void* weights, Source source, int64_t size,
                         cudaStream_t stream) {
  if (size == 0) return cudaSuccess;
  int block_shift = 5;
  while ((1 << block_shift) < target.block_size) ++block_shift;
  const auto quantize_source = source == Source::kFloat32    ? quantize<Source::kFloat32>
                               : source == Source::kBfloat16 ? quantize<Source::kBfloat16>
                                                             : quantize<Source::kFloat16>;
  cudaError_t status = quantize_source(target, weights, block_shift, size, stream);
  if (status != cudaSuccess || target.nested_codes == nullptr) return status;
  const int64_t count = (size + target.block_size - 1) >> block_shift;
  status = launch(nf4_offset_kernel, dim3(1), kThreads, 0, stream, target.offset, target.absmax, count);
  if (status != cudaSuccess) return status;
  return launch(nf4_nested_kernel, dim3(static_cast<unsigned>((count + kNestedBlock - 1) / kNestedBlock)), kThreads, 0,
                stream, target, count);
}

}  // namespace phi3tune::kernels
