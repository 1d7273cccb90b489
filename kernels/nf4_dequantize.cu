// NF4 to bf16 or float. A block walks over tiles of 8192 weights: 16-byte cp.async loads of the next tile's codes fly
// while this tile is written, 16 bytes a store. Products and sums are spelled with their rounding, so that none is
// fused.
#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>

#include <limits>
#include <type_traits>

#include "device.cuh"
#include "kernels.h"

namespace phi3tune::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kTileBytes = kThreads * 16;
constexpr int kTile = 2 * kTileBytes;    // weights; a multiple of every block size
constexpr int kTileScales = kTile / 32;  // at most: the smallest block is 32
constexpr int kBlocksPerSm = 6;          // as many as every generation holds at once
static_assert(kTileScales <= kThreads, "a thread makes at most one scale of a tile");

// Two roundings, as bitsandbytes multiplies and adds in kernels of their own.
__device__ __forceinline__ float scale_of(const Nf4View& q, int64_t block) {
  if (q.nested_codes == nullptr) return q.absmax[block];
  const float product = __fmul_rn(__ldg(q.nested_map + q.nested_codes[block]), q.nested_absmax[block / 256]);
  return __fadd_rn(product, __ldg(q.offset));
}

// The value that a weight of this dtype has.
template <Source kSource>
__device__ __forceinline__ float as_source(float value) {
  if constexpr (kSource == Source::kFloat16) {
    return __half2float(__float2half_rn(value));
  } else if constexpr (kSource == Source::kBfloat16) {
    return rounded<bf16>(value);
  } else {
    return value;
  }
}

// Where element i of the flattened matrix goes: i + (its row) * gap.
struct Rows {
  uint64_t inverse;  // ceil(2^64 / vectors of a row): a vector's row is the upper half of the product; 0: no gap
  int gap;           // elements from a row's end to the next row
};

__device__ __forceinline__ void fetch_tile(unsigned char* staged, const Nf4View& q, int64_t bytes, int64_t tile) {
  const int64_t at = tile * kTileBytes + threadIdx.x * 16;
  unsigned char* to = staged + threadIdx.x * 16;
  if (at + 16 <= bytes) {
    __pipeline_memcpy_async(to, q.codes + at, 16);
  } else if (at < bytes) {  // by hand: a zero fill known only at run time becomes fifteen copy instructions
#pragma unroll 1
    for (int i = 0; i < 16; ++i) to[i] = at + i < bytes ? q.codes[at + i] : static_cast<unsigned char>(0);
  }
  __pipeline_commit();  // an empty group too: waits count groups. The last group is always empty.
}

// `vectors` of kVectorWidth<T> weights, none of which crosses a row's end.
template <class T, Source kSource>
__global__ void __launch_bounds__(kThreads)
    nf4_dequantize_kernel(T* __restrict__ weight, const Nf4View q, int block_shift, int64_t vectors, const Rows rows) {
  constexpr int kWidth = kVectorWidth<T>;
  __shared__ __align__(16) unsigned char staged[2][kTileBytes];
  __shared__ float scales[kTileScales];
  __shared__ float table[16][32];  // a copy per lane: no bank conflicts

  for (int i = static_cast<int>(threadIdx.x); i < 16 * 32; i += kThreads)
    table[i / 32][i % 32] = __ldg(q.code_values + i / 32);
  const int64_t bytes = vectors * (kWidth / 2);
  const int64_t tiles = (bytes + kTileBytes - 1) / kTileBytes;
  const int64_t scale_count = (vectors * kWidth + (int64_t{1} << block_shift) - 1) >> block_shift;
  const int tile_scales = kTile >> block_shift;
  const float* my_table = table[0] + threadIdx.x % 32;

  fetch_tile(staged[0], q, bytes, blockIdx.x);
  int stage = 0;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x, stage ^= 1) {
    fetch_tile(staged[stage ^ 1], q, bytes, tile + gridDim.x);
    const int64_t block = tile * tile_scales + threadIdx.x;
    if (static_cast<int>(threadIdx.x) < tile_scales && block < scale_count) scales[threadIdx.x] = scale_of(q, block);
    __pipeline_wait_prior(1);
    __syncthreads();  // codes and scales of this tile are complete
#pragma unroll
    for (int step = 0; step < kTile / kWidth / kThreads; ++step) {
      const int in_tile = step * kThreads + static_cast<int>(threadIdx.x);
      const int64_t vector = tile * (kTile / kWidth) + in_tile;
      if (vector >= vectors) break;
      using Codes = std::conditional_t<kWidth == 8, uint32_t, uint16_t>;
      const unsigned codes = reinterpret_cast<const Codes*>(staged[stage])[in_tile];
      const float scale = scales[in_tile * kWidth >> block_shift];
      float values[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const int shift = i / 2 * 8 + (i % 2 == 0 ? 4 : 0);
        values[i] = as_source<kSource>(__fmul_rn(my_table[(codes >> shift & 15) * 32], scale));
      }
      const auto row = static_cast<int>(__umul64hi(static_cast<uint64_t>(vector), rows.inverse));
      store_global(weight + vector * kWidth + int64_t{row} * rows.gap, values);
    }
    __syncthreads();  // before the next tile's codes and scales
  }
}

// Any width, distance and address.
template <class T, Source kSource>
__global__ void __launch_bounds__(kThreads)
    nf4_dequantize_elements_kernel(T* __restrict__ weight, int64_t ld_weight, const Nf4View q, int block_shift) {
  const int64_t size = q.rows * q.cols;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += int64_t{gridDim.x} * kThreads) {
    const unsigned pair = q.codes[i / 2];
    const float code = __ldg(q.code_values + (i % 2 == 0 ? pair >> 4 : pair & 15));
    const float value = as_source<kSource>(__fmul_rn(code, scale_of(q, i >> block_shift)));
    const int64_t row = i / q.cols;
    weight[row * ld_weight + (i - row * q.cols)] = from_float<T>(value);
  }
}

template <class T, Source kSource>
cudaError_t dequantize(T* weight, int64_t ld_weight, const Nf4View& q, cudaStream_t stream) {
  int block_shift = 5;
  while ((1 << block_shift) < q.block_size) ++block_shift;
  constexpr int kWidth = kVectorWidth<T>;
  const int64_t size = q.rows * q.cols, vectors = size / kWidth, row_vectors = q.cols / kWidth;
  const int64_t gap = q.rows > 1 ? ld_weight - q.cols : 0;
  // The inverse is exact for vector v of rows of n vectors while v * n < 2^64; for n = 1 it has 65 bits.
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  const bool invertible =
      row_vectors > 1 && row_vectors <= (1 << 20) && vectors <= (int64_t{1} << 43) && q.rows <= kMost && gap <= kMost;
  unsigned blocks = 0;
  const bool whole_vectors = gap == 0 ? size % kWidth == 0 : q.cols % kWidth == 0 && invertible;
  if (whole_vectors && allows_vectors(weight, gap) && reinterpret_cast<uintptr_t>(q.codes) % 16 == 0) {
    Rows rows{0, 0};
    if (gap != 0) rows = {~uint64_t{0} / static_cast<uint64_t>(row_vectors) + 1, static_cast<int>(gap)};
    const cudaError_t status = grid_for(blocks, (size + kTile - 1) / kTile, kBlocksPerSm);
    if (status != cudaSuccess) return status;
    return launch(nf4_dequantize_kernel<T, kSource>, dim3(blocks), kThreads, 0, stream, weight, q, block_shift, vectors,
                  rows);
  }
  const cudaError_t status = grid_for(blocks, (size + kThreads - 1) / kThreads, kBlocksPerSm);
  if (status != cudaSuccess) return status;
  return launch(nf4_dequantize_elements_kernel<T, kSource>, dim3(blocks), kThreads, 0, stream, weight, ld_weight, q,
                block_shift);
}

}  // namespace

template <typename T>
cudaError_t nf4_dequantize(T* weight, int64_t ld_weight, const Nf4View& quantized, cudaStream_t stream) {
  if (quantized.rows == 0 || quantized.cols == 0) return cudaSuccess;
  if (quantized.source == Source::kFloat16)
    return dequantize<T, Source::kFloat16>(weight, ld_weight, quantized, stream);
  if constexpr (sizeof(T) == 4) {  // the store rounds to bf16 anyway
    if (quantized.source == Source::kBfloat16)
      return dequantize<T, Source::kBfloat16>(weight, ld_weight, quantized, stream);
  }
  return dequantize<T, Source::kFloat32>(weight, ld_weight, quantized, stream);
}

template cudaError_t nf4_dequantize(bf16*, int64_t, const Nf4View&, cudaStream_t);
template cudaError_t nf4_dequantize(float*, int64_t, const Nf4View&, cudaStream_t);

}  // namespace phi3tune::kernels
