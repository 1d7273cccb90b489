// The product of a tall matrix with a skinny one, as the gradients of LoRA's factors need it: see kernels.h.
#pragma once

#include "ops/cpu/kernels.h"
#include "ops/cpu/vector.h"

namespace phi3tune::ops::cpu {
namespace {

// Sums kept in registers beside one vector of x.
constexpr int64_t kRankTile = kVectorBytes == 64 ? 16 : 8;
// Rows whose strips stay in the first-level cache while the ranks pass over them.
constexpr int64_t kRowTile = 32;

// sums[j][0..lanes) += s[row][j] * x[row][0..lanes) over `rows` rows, for `ranks` <= kRankTile.
template <int64_t kRanks, typename T, typename P>
inline void add_products(Wide<T>* sums, int64_t sums_stride, const T* x, int64_t x_stride, const Wide<T>* s,
                         int64_t s_stride, int64_t rows, P part) {
  using W = Wide<T>;
  Vec<W> sum[kRanks];
  for (int64_t j = 0; j < kRanks; ++j) {
    sum[j] = load(sums + j * sums_stride, part);
  }
  for (int64_t row = 0; row < rows; ++row) {
    const Vec<W> value = load(x + row * x_stride, part);
    for (int64_t j = 0; j < kRanks; ++j) {
      sum[j] += value * s[row * s_stride + j];
    }
  }
  for (int64_t j = 0; j < kRanks; ++j) {
    store(sums + j * sums_stride, sum[j], part);
  }
}

template <typename T>
void weight_gradient(Wide<T>* sums, const T* x, const Wide<T>* s, int64_t rows, int64_t columns, int64_t x_stride,
                     int64_t rank) {
  using W = Wide<T>;
  for (int64_t i = 0; i < rank * columns; ++i) {
    sums[i] = W(0);
  }
  for (int64_t row = 0; row < rows; row += kRowTile) {
    const int64_t count = rows - row < kRowTile ? rows - row : kRowTile;
    const T* strip = x + row * x_stride;
    for (int64_t next = count; next < 2 * count && row + next < rows; ++next) {
      for (int64_t i = 0; i < columns; i += 64 / static_cast<int64_t>(sizeof(T))) {
        __builtin_prefetch(strip + next * x_stride + i);
      }
    }
    for_vectors<W>(columns, [&](int64_t i, auto part) {
      int64_t j = 0;
      for (; j + kRankTile <= rank; j += kRankTile) {
        add_products<kRankTile>(sums + j * columns + i, columns, strip + i, x_stride, s + row * rank + j, rank, count,
                                part);
      }
      for (; j + 4 <= rank; j += 4) {
        add_products<4>(sums + j * columns + i, columns, strip + i, x_stride, s + row * rank + j, rank, count, part);
      }
      for (; j < rank; ++j) {
        add_products<1>(sums + j * columns + i, columns, strip + i, x_stride, s + row * rank + j, rank, count, part);
      }
    });
  }
}

}  // namespace
}  // namespace phi3tune::ops::cpu
