// The elementwise part of attention over a tile of transposed scores [keys, queries]: see kernels.h.
#pragma once

#include "ops/cpu/exponential.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/vector.h"

namespace phi3tune::ops::cpu {
namespace {

struct Visible {
  int64_t begin;  // queries [begin, end) of the tile see the key
  int64_t end;
};

inline Visible visible_queries(const ScoreTile& tile, int64_t key) {
  const int64_t begin = tile.key + key - tile.query;
  const int64_t end = tile.window > 0 ? begin + tile.window : tile.queries;
  const int64_t low = begin < 0 ? 0 : begin;
  const int64_t high = end < tile.queries ? end : tile.queries;
  return {low < high ? low : high, high};
}

template <typename T>
inline void zero_outside(T* row, Visible visible, int64_t stride) {
  for (int64_t i = 0; i < visible.begin; ++i) {
    row[i] = T(0);
  }
  for (int64_t i = visible.end < 0 ? 0 : visible.end; i < stride; ++i) {
    row[i] = T(0);
  }
}

// Calls f(i) for the whole vectors that cover `visible`; rows are padded to whole vectors.
template <typename W, typename F>
inline void for_covering_vectors(Visible visible, const F& f) {
  for (int64_t i = visible.begin / kLanes<W> * kLanes<W>; i < visible.end; i += kLanes<W>) {
    f(i);
  }
}

template <typename T>
void attention_gradients(T* shares, T* d_scores, const Wide<T>* scores, const Wide<T>* d_shares, const Wide<T>* lse,
                         const Wide<T>* dots, const ScoreTile& tile) {
  using W = Wide<T>;
  const W scale = static_cast<W>(tile.scale);
  for (int64_t key = 0; key < tile.keys; ++key) {
    const int64_t at = key * tile.stride;
    const Visible visible = visible_queries(tile, key);
    for_covering_vectors<W>(visible, [&](int64_t i) {
      const Vec<W> share = vector_exp(load(scores + at + i, Full{}) * scale - load(lse + i, Full{}));
      store(shares + at + i, share, Full{});
      const Vec<W> change = load(d_shares + at + i, Full{}) - load(dots + i, Full{});
      store(d_scores + at + i, share * change * scale, Full{});
    });
    zero_outside(shares + at, visible, tile.stride);
    zero_outside(d_scores + at, visible, tile.stride);
  }
}

// Runs of a query's softmax over the tiles so far.
template <typename T>
void attention_shares(T* shares, Wide<T>* maxima, Wide<T>* sums, Wide<T>* shrink, Wide<T>* scores,
                      const ScoreTile& tile) {
  using W = Wide<T>;
  const W scale = static_cast<W>(tile.scale);
  for (int64_t key = 0; key < tile.keys; ++key) {
    const Visible visible = visible_queries(tile, key);
    W* row = scores + key * tile.stride;
    for (int64_t i = 0; i < visible.begin; ++i) {
      row[i] = -__builtin_inff();
    }
    for (int64_t i = visible.end < 0 ? 0 : visible.end; i < tile.stride; ++i) {
      row[i] = -__builtin_inff();
    }
  }
  for (int64_t i = 0; i < tile.stride; i += kLanes<W>) {
    const Vec<W> before = load(maxima + i, Full{});
    Vec<W> largest = before;
    for (int64_t key = 0; key < tile.keys; ++key) {
      const Vec<W> score = load(scores + key * tile.stride + i, Full{}) * scale;
      largest = score > largest ? score : largest;
    }
    const Vec<W> kept = vector_exp(before - largest);
    Vec<W> sum = load(sums + i, Full{}) * kept;
    for (int64_t key = 0; key < tile.keys; ++key) {
      const int64_t at = key * tile.stride + i;
      const Vec<W> share = vector_exp(load(scores + at, Full{}) * scale - largest);
      sum += share;
      store(shares + at, share, Full{});
    }
    store(maxima + i, largest, Full{});
    store(sums + i, sum, Full{});
    store(shrink + i, kept, Full{});
  }
}

template <typename W>
void scale_rows(W* rows, const W* factors, int64_t count, int64_t dim) {
  for (int64_t row = 0; row < count; ++row) {
    for_vectors<W>(dim, [&](int64_t i, auto part) {
      store(rows + row * dim + i, load(rows + row * dim + i, part) * factors[row], part);
    });
  }
}

template <typename T>
void row_dots(Wide<T>* dots, const T* a, const T* b, int64_t rows, int64_t dim, int64_t a_stride, int64_t b_stride) {
  using W = Wide<T>;
  for (int64_t row = 0; row < rows; ++row) {
    Vec<W> sum{};
    for_vectors<W>(dim, [&](int64_t i, auto part) {
      sum += load(a + row * a_stride + i, part) * load(b + row * b_stride + i, part);
    });
    dots[row] = sum_lanes<W>(sum);
  }
}

}  // namespace
}  // namespace phi3tune::ops::cpu
