// Attention of a few new tokens over a sequence's cached keys and values: see kernels.h.
#pragma once

#include "ops/cpu/dots.h"
#include "ops/cpu/exponential.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/vector.h"

namespace phi3tune::ops::cpu {
namespace {

// Keys that stay in the first-level cache while the queries pass over them.
constexpr int64_t kKeyBlock = 64;

// sums [head_dim] = factor * sums + shares [keys] x values [keys, head_dim], for kVectors vectors of columns.
template <int64_t kVectors, typename T, typename P>
inline void add_shares(Wide<T>* sums, Wide<T> factor, const Wide<T>* shares, const T* values, int64_t keys,
                       int64_t head_dim, P part) {
  using W = Wide<T>;
  Vec<W> sum[kVectors];
  for (int64_t i = 0; i < kVectors; ++i) {
    sum[i] = load(sums + i * kLanes<W>, part) * factor;
  }
  for (int64_t key = 0; key < keys; ++key) {
    for (int64_t i = 0; i < kVectors; ++i) {
      sum[i] += load(values + key * head_dim + i * kLanes<W>, part) * shares[key];
    }
  }
  for (int64_t i = 0; i < kVectors; ++i) {
    store(sums + i * kLanes<W>, sum[i], part);
  }
}

// The running softmax of one query.
template <typename W>
struct Running {
  W* sums;     // [head_dim]
  W* largest;  // score so far
  W* weight;   // of all shares so far
};

// `keys` <= kKeyBlock of them. shares: scratch [kKeyBlock].
template <typename T>
inline void attend(const Running<Wide<T>>& to, Wide<T>* shares, const Wide<T>* query, const T* keys, const T* values,
                   int64_t count, int64_t head_dim) {
  using W = Wide<T>;
  Vec<W> tops = splat(*to.largest);
  for_vectors<W>(count, [&](int64_t i, auto part) {
    const Vec<W> scores =
        fill_tail<W>(dots_of(query, keys + i * head_dim, count - i, head_dim), part, -static_cast<W>(__builtin_inff()));
    tops = scores > tops ? scores : tops;
    store(shares + i, scores, Full{});
  });
  const W largest = max_lanes<W>(tops);
  Vec<W> total{};
  for_vectors<W>(count, [&](int64_t i, auto) {
    const Vec<W> share = vector_exp(load(shares + i, Full{}) - largest);
    total += share;
    store(shares + i, share, Full{});
  });
  const W kept = vector_exp(splat(*to.largest - largest))[0];
  *to.largest = largest;
  *to.weight = *to.weight * kept + sum_lanes<W>(total);
  int64_t column = 0;
  for (; column + 4 * kLanes<W> <= head_dim; column += 4 * kLanes<W>) {
    add_shares<4>(to.sums + column, kept, shares, values + column, count, head_dim, Full{});
  }
  for_vectors<W>(head_dim - column, [&](int64_t i, auto part) {
    add_shares<1>(to.sums + column + i, kept, shares, values + column + i, count, head_dim, part);
  });
}

template <typename T>
void cached_attention(T* out, const T* q, const T* keys, const T* values, Wide<T>* scratch,
                      const CachedQueries& queries) {
  using W = Wide<T>;
  const int64_t dim = queries.head_dim;
  const int64_t count = queries.tokens * queries.group;
  W* shares = scratch;
  W* scaled = shares + kKeyBlock;
  W* sums = scaled + count * dim;
  W* largest = sums + count * dim;
  W* weights = largest + count;
  const auto q_at = [&](int64_t i) { return q + i / queries.group * queries.q_stride + i % queries.group * dim; };
  for (int64_t i = 0; i < count; ++i) {
    for_vectors<W>(dim, [&](int64_t j, auto part) {
      store(scaled + i * dim + j, load(q_at(i) + j, part) * static_cast<W>(queries.scale), part);
      store(sums + i * dim + j, Vec<W>{}, part);
    });
    largest[i] = static_cast<W>(-3e38);
    weights[i] = W(0);
  }
  const auto first_seen = [&](int64_t position) {
    return queries.window > 0 && position >= queries.window ? position - queries.window + 1 : 0;
  };
  const int64_t end = queries.first + queries.tokens;
  for (int64_t block = first_seen(queries.first); block < end; block += kKeyBlock) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = queries.first + i / queries.group;
      const int64_t seen = first_seen(position);
      const int64_t low = seen > block ? seen : block;
      const int64_t high = position + 1 < block + kKeyBlock ? position + 1 : block + kKeyBlock;
      if (low < high) {
        attend(Running<W>{sums + i * dim, largest + i, weights + i}, shares, scaled + i * dim, keys + low * dim,
               values + low * dim, high - low, dim);
      }
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    T* to = out + i / queries.group * queries.out_stride + i % queries.group * dim;
    for_vectors<W>(dim,
                   [&](int64_t j, auto part) { store(to + j, load(sums + i * dim + j, part) / weights[i], part); });
  }
}

}  // namespace
}  // namespace phi3tune::ops::cpu
