// Rows gathered and scattered, matrices added and converted: element-wise, every element moved once.
#include "kernels.h"
#include "row_tiles.cuh"

namespace phi3tune::kernels {
namespace {

// Copies move bits: uint4 for 16 bytes, else one element.
constexpr int kCopySteps = 4;

template <typename Unit>
__global__ void __launch_bounds__(kTileThreads)
    gather_kernel(RowTiles tiles, int64_t rows, int64_t cols, Unit* __restrict__ out, int64_t ld_out,
                  const Unit* __restrict__ table, int64_t ld_table, const int64_t* __restrict__ ids) {
  const TilePlace tile = my_tile<1, kCopySteps>(tiles);
  if (tile.row >= rows) return;
  const Unit* from = table + ids[tile.row] * ld_table;
  Unit* to = out + tile.row * ld_out;
#pragma unroll
  for (int step = 0; step < kCopySteps; ++step) {
    const int64_t column = tile.column + step * 32;
    if (column < cols) to[column] = from[column];
  }
}

template <typename Unit>
__global__ void __launch_bounds__(kTileThreads)
    scatter_kernel(RowTiles tiles, int64_t out_rows, int64_t cols, Unit* __restrict__ out, int64_t ld_out,
                   const Unit* __restrict__ x, int64_t ld_x, const int64_t* __restrict__ ids, int64_t rows) {
  const TilePlace tile = my_tile<1, kCopySteps>(tiles);
  if (tile.row >= out_rows) return;
  int64_t low = 0;  // becomes the first row of x that belongs here or below
  for (int64_t high = rows; low < high;) {
    const int64_t middle = (low + high) / 2;
    if (ids[middle] < tile.row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const bool given = low < rows && ids[low] == tile.row;
  const Unit* from = x + low * ld_x;
  Unit* to = out + tile.row * ld_out;
#pragma unroll
  for (int step = 0; step < kCopySteps; ++step) {
    const int64_t column = tile.column + step * 32;
    if (column < cols) to[column] = given ? from[column] : Unit{};
  }
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kTileThreads)
    add_kernel(RowTiles tiles, int64_t rows, int64_t cols, T* sum, int64_t ld_sum, const T* a, int64_t ld_a, const T* b,
               int64_t ld_b) {
  const TilePlace tile = my_tile<kWidth>(tiles);
  if (tile.row >= rows || tile.column >= cols) return;
  float left[kWidth], right[kWidth];
  load_global(left, a + tile.row * ld_a + tile.column);
  load_global(right, b + tile.row * ld_b + tile.column);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) left[i] += right[i];
  store_global(sum + tile.row * ld_sum + tile.column, left);
}

// kWidth elements, in as many 16-byte accesses as that takes.
template <int kWidth, typename T>
__device__ __forceinline__ void load_span(float (&values)[kWidth], const T* from) {
  if constexpr (kWidth > kVectorWidth<T>) {
    float half[kWidth / 2];
#pragma unroll
    for (int i = 0; i < kWidth; i += kWidth / 2) {
      load_global(half, from + i);
#pragma unroll
      for (int k = 0; k < kWidth / 2; ++k) values[i + k] = half[k];
    }
  } else {
    load_global(values, from);
  }
}
template <int kWidth, typename T>
__device__ __forceinline__ void store_span(T* to, const float (&values)[kWidth]) {
  if constexpr (kWidth > kVectorWidth<T>) {
    float half[kWidth / 2];
#pragma unroll
    for (int i = 0; i < kWidth; i += kWidth / 2) {
#pragma unroll
      for (int k = 0; k < kWidth / 2; ++k) half[k] = values[i + k];
      store_global(to + i, half);
    }
  } else {
    store_global(to, values);
  }
}

template <int kWidth, typename Out, typename In>
__global__ void __launch_bounds__(kTileThreads)
    convert_kernel(RowTiles tiles, int64_t rows, int64_t cols, Out* out, int64_t ld_out, const In* in, int64_t ld_in,
                   float scale) {
  const TilePlace tile = my_tile<kWidth>(tiles);
  if (tile.row >= rows || tile.column >= cols) return;
  float values[kWidth];
  load_span(values, in + tile.row * ld_in + tile.column);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) values[i] *= scale;
  store_span(out + tile.row * ld_out + tile.column, values);
}

// Rows that follow each other without a gap are one long row, so a width that is no multiple of a vector's does no
// harm.
template <typename... Distances>
void join_rows(int64_t& rows, int64_t& cols, Distances&... distances) {
  if (rows > 1 && !((distances == cols) && ...)) return;
  cols *= rows;
  rows = 1;
  ((distances = cols), ...);
}

}  // namespace

template <typename T>
cudaError_t gather_rows(T* out, int64_t ld_out, const T* table, int64_t ld_table, const int64_t* ids, int64_t rows,
                        int64_t dim, cudaStream_t stream) {
  if (rows == 0 || dim == 0) return cudaSuccess;
  constexpr int kWidth = kVectorWidth<T>;
  if (dim % kWidth == 0 && allows_vectors(out, ld_out) && allows_vectors(table, ld_table)) {
    return launch_tiles<1, kCopySteps>(gather_kernel<uint4>, rows, dim / kWidth, stream, reinterpret_cast<uint4*>(out),
                                       ld_out / kWidth, reinterpret_cast<const uint4*>(table), ld_table / kWidth, ids);
  }
  return launch_tiles<1, kCopySteps>(gather_kernel<T>, rows, dim, stream, out, ld_out, table, ld_table, ids);
}

template <typename T>
cudaError_t scatter_rows(T* out, int64_t ld_out, const T* x, int64_t ld_x, const int64_t* ids, int64_t rows,
                         int64_t out_rows, int64_t dim, cudaStream_t stream) {
  if (out_rows == 0 || dim == 0) return cudaSuccess;
  constexpr int kWidth = kVectorWidth<T>;
  if (dim % kWidth == 0 && allows_vectors(out, ld_out) && allows_vectors(x, ld_x)) {
    return launch_tiles<1, kCopySteps>(scatter_kernel<uint4>, out_rows, dim / kWidth, stream,
                                       reinterpret_cast<uint4*>(out), ld_out / kWidth,
                                       reinterpret_cast<const uint4*>(x), ld_x / kWidth, ids, rows);
  }
  return launch_tiles<1, kCopySteps>(scatter_kernel<T>, out_rows, dim, stream, out, ld_out, x, ld_x, ids, rows);
}

template <typename T>
cudaError_t add(T* sum, int64_t ld_sum, const T* a, int64_t ld_a, const T* b, int64_t ld_b, int64_t rows, int64_t dim,
                cudaStream_t stream) {
  if (rows == 0 || dim == 0) return cudaSuccess;
  join_rows(rows, dim, ld_sum, ld_a, ld_b);
  constexpr int kWidth = kVectorWidth<T>;
  if (dim % kWidth == 0 && allows_vectors(sum, ld_sum) && allows_vectors(a, ld_a) && allows_vectors(b, ld_b)) {
    return launch_tiles<kWidth>(add_kernel<kWidth, T>, rows, dim, stream, sum, ld_sum, a, ld_a, b, ld_b);
  }
  return launch_tiles<1>(add_kernel<1, T>, rows, dim, stream, sum, ld_sum, a, ld_a, b, ld_b);
}

template <typename Out, typename In>
cudaError_t convert(Out* out, int64_t ld_out, const In* in, int64_t ld_in, int64_t rows, int64_t cols, float scale,
                    cudaStream_t stream) {
  if (rows == 0 || cols == 0) return cudaSuccess;
  join_rows(rows, cols, ld_out, ld_in);
  constexpr int kWidth = sizeof(Out) < sizeof(In) ? kVectorWidth<Out> : kVectorWidth<In>;
  if (cols % kWidth == 0 && allows_vectors(out, ld_out) && allows_vectors(in, ld_in)) {
    return launch_tiles<kWidth>(convert_kernel<kWidth, Out, In>, rows, cols, stream, out, ld_out, in, ld_in, scale);
  }
  return launch_tiles<1>(convert_kernel<1, Out, In>, rows, cols, stream, out, ld_out, in, ld_in, scale);
}

#define PHI3TUNE_INSTANTIATE(T)                                                                                     \
  template cudaError_t gather_rows(T*, int64_t, const T*, int64_t, const int64_t*, int64_t, int64_t, cudaStream_t); \
  template cudaError_t scatter_rows(T*, int64_t, const T*, int64_t, const int64_t*, int64_t, int64_t, int64_t,      \
                                    cudaStream_t);                                                                  \
  template cudaError_t add(T*, int64_t, const T*, int64_t, const T*, int64_t, int64_t, int64_t, cudaStream_t);      \
  template cudaError_t convert(T*, int64_t, const float*, int64_t, int64_t, int64_t, float, cudaStream_t);          \
  template cudaError_t convert(T*, int64_t, const bf16*, int64_t, int64_t, int64_t, float, cudaStream_t)
PHI3TUNE_INSTANTIATE(float);
PHI3TUNE_INSTANTIATE(bf16);
#undef PHI3TUNE_INSTANTIATE

}  // namespace phi3tune::kernels
