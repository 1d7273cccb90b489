// Dot products of one vector with the rows of a matrix, a vector's worth of rows at a time.
#pragma once

#include <cstddef>
#include <utility>

#include "ops/cpu/vector.h"

namespace phi3tune::ops::cpu {
namespace {

// Lane i of the result is of a where bit kDistance of i is 0, else of b: its own lane and the one kDistance beside it.
template <size_t kDistance, typename V, size_t... kLane>
inline V add_neighbours(V a, V b, std::index_sequence<kLane...>) {
  constexpr size_t kCount = sizeof...(kLane);
  const V own = __builtin_shufflevector(a, b, ((kLane & kDistance) == 0 ? kLane : kCount + kLane)...);
  const V beside =
      __builtin_shufflevector(a, b, ((kLane & kDistance) == 0 ? kLane ^ kDistance : kCount + (kLane ^ kDistance))...);
  return own + beside;
}

// Lane i: the sum of the lanes of sums[i]. Pairwise, in an order of its own. Overwrites sums.
template <typename W, size_t kDistance = 1>
inline Vec<W> sum_each(Vec<W>* sums) {
  constexpr auto kCount = static_cast<size_t>(kLanes<W>);
  if constexpr (kDistance == kCount) {
    return sums[0];
  } else {
    for (size_t i = 0; i < kCount; i += 2 * kDistance) {
      sums[i] = add_neighbours<kDistance>(sums[i], sums[i + kDistance], std::make_index_sequence<kCount>{});
    }
    return sum_each<W, 2 * kDistance>(sums);
  }
}

// Lane i: x . rows[i], for the first `count` <= kLanes rows; the others repeat the last. X: T or its wide type.
template <typename T, typename X>
inline Vec<Wide<T>> dots_of(const X* x, const T* rows, int64_t count, int64_t dim) {
  using W = Wide<T>;
  Vec<W> sums[kLanes<W>];
  for (int64_t lane = 0; lane < kLanes<W>; ++lane) {
    const T* row = rows + (lane < count ? lane : count - 1) * dim;
    Vec<W> even{}, odd{};
    int64_t i = 0;
    for (; i + 2 * kLanes<W> <= dim; i += 2 * kLanes<W>) {
      even += load(x + i, Full{}) * load(row + i, Full{});
      odd += load(x + i + kLanes<W>, Full{}) * load(row + i + kLanes<W>, Full{});
    }
    for_vectors<W>(dim - i, [&](int64_t j, auto part) { even += load(x + i + j, part) * load(row + i + j, part); });
    sums[lane] = even + odd;
  }
  return sum_each<W>(sums);
}

template <typename T>
void vector_dots(T* dots, const T* x, const T* rows, int64_t count, int64_t dim) {
  for_vectors<Wide<T>>(
      count, [&](int64_t i, auto part) { store(dots + i, dots_of(x, rows + i * dim, count - i, dim), part); });
}

template <typename T>
void add_vector_dots(T* y, const T* x, const T* rows, int64_t count, int64_t dim, double scale) {
  using W = Wide<T>;
  for_vectors<W>(count, [&](int64_t i, auto part) {
    store(y + i, load(y + i, part) + dots_of(x, rows + i * dim, count - i, dim) * static_cast<W>(scale), part);
  });
}

}  // namespace
}  // namespace phi3tune::ops::cpu
