// A matrix cut into tiles of one row each, a warp for every tile: element-wise work where rows may lie apart.
//
// A lane holds kSteps vectors of a tile, 32 vectors apart, so a warp's accesses are contiguous. Blocks share nothing;
// how many there are follows from the matrix alone.
#pragma once

#include "device.cuh"

namespace phi3tune::kernels {

constexpr int kTileThreads = 256;

struct RowTiles {
  unsigned per_row;  // 0: more than a launch can number
  unsigned blocks;
};

// `step` is the elements that a warp handles in one tile.
static inline RowTiles cut_rows(int64_t rows, int64_t cols, int64_t step) {
  constexpr int64_t kMost = int64_t{0xffffffff} - kTileThreads / 32;  // tiles are numbered in 32 bits
  const int64_t per_row = (cols + step - 1) / step;
  if (per_row > kMost / rows) return {};
  return {static_cast<unsigned>(per_row),
          static_cast<unsigned>((rows * per_row + kTileThreads / 32 - 1) / (kTileThreads / 32))};
}

struct TilePlace {
  int64_t row, column;  // of this lane's first vector
};

// Past the last row for warps that have no tile.
template <int kWidth, int kSteps = 1>
static __device__ __forceinline__ TilePlace my_tile(RowTiles tiles) {
  const unsigned tile = blockIdx.x * (kTileThreads / 32) + threadIdx.x / 32;
  const unsigned row = tile / tiles.per_row;
  const int64_t first = int64_t{tile - row * tiles.per_row} * (32 * kWidth * kSteps);
  return {row, first + threadIdx.x % 32 * kWidth};
}

// Cuts for kWidth and kSteps and launches.
template <int kWidth, int kSteps = 1, class Kernel, class... Arguments>
[[nodiscard]] static cudaError_t launch_tiles(Kernel kernel, int64_t rows, int64_t cols, cudaStream_t stream,
                                              Arguments... arguments) {
  const RowTiles tiles = cut_rows(rows, cols, int64_t{32} * kWidth * kSteps);
  if (tiles.per_row == 0) return cudaErrorInvalidValue;
  return launch(kernel, dim3(tiles.blocks), kTileThreads, 0, stream, tiles, rows, cols, arguments...);
}

}  // namespace phi3tune::kernels
