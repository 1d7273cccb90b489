// Products of a few rows with a weight: the weight is read once, front to back, and is what takes the time.
//
// Each result is one sum over the inputs in an order of its own: it does not depend on the rows beside it, on the
// threads, or on where a task begins.
#pragma once

#include "ops/cpu/kernels.h"
#include "ops/cpu/vector.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace phi3tune::ops::cpu {
namespace {

constexpr int64_t kRowsTogether = 8;                       // of x, beside a few of the weight
constexpr int64_t kRowSums = kVectorBytes == 64 ? 16 : 8;  // kept in registers
constexpr int64_t kOutputsTogether = 8;  // rows of the weight that stay in the cache while groups of x pass
constexpr int64_t kAhead = 1024;         // bytes of a row, prefetched
constexpr int64_t kNf4Ahead = 2048;      // bytes of codes, prefetched
constexpr int64_t kLine = 64;

// How the elements of a row are multiplied: kStep of them at a time into a vector of sums.
template <typename T>
struct Products {
  using Values = Vec<Wide<T>>;
  using Sums = Vec<Wide<T>>;
  static constexpr int64_t kStep = kLanes<Wide<T>>;
  template <typename P>
  static Values values(const T* from, P part) {
    return load(from, part);
  }
  static Sums add(Sums sums, Values a, Values b) { return sums + a * b; }
};

#if defined(__AVX512BF16__)
// Pairs of neighbours at once, added in float32; subnormal numbers count as 0.
template <>
struct Products<Bf16> {
  using Values = __m512bh;
  using Sums = F32;
  static constexpr int64_t kStep = 32;
  static Values values(const Bf16* from, Full full) { return load_raw<Values>(from, full); }
  static Values values(const Bf16* from, Part part) {
    const auto mask = static_cast<__mmask32>((uint64_t{1} << part.count) - 1);
    return reinterpret_cast<Values>(_mm512_maskz_loadu_epi16(mask, from));
  }
  static Sums add(Sums sums, Values a, Values b) { return _mm512_dpbf16_ps(sums, a, b); }
};
#endif

// y[m][o] for kRows rows of x and kOutputs of the weight.
template <int64_t kRows, int64_t kOutputs, typename T>
inline void product_tile(T* y, const T* x, const T* weight, int64_t inputs, int64_t y_stride) {
  using P = Products<T>;
  typename P::Sums sums[kRows][kOutputs] = {};
  const auto step = [&](int64_t i, auto part) {
    typename P::Values row[kOutputs];
    for (int64_t o = 0; o < kOutputs; ++o) {
      row[o] = P::values(weight + o * inputs + i, part);
    }
    for (int64_t m = 0; m < kRows; ++m) {
      const typename P::Values value = P::values(x + m * inputs + i, part);
      for (int64_t o = 0; o < kOutputs; ++o) {
        sums[m][o] = P::add(sums[m][o], value, row[o]);
      }
    }
  };
  constexpr int64_t kLineElements = kLine / static_cast<int64_t>(sizeof(T));
  int64_t i = 0;
  for (; i + kLineElements <= inputs; i += kLineElements) {
    for (int64_t o = 0; o < kOutputs; ++o) {
      __builtin_prefetch(reinterpret_cast<const char*>(weight + o * inputs + i) + kAhead);
    }
    for (int64_t j = 0; j < kLineElements; j += P::kStep) {
      step(i + j, Full{});
    }
  }
  for (; i + P::kStep <= inputs; i += P::kStep) {
    step(i, Full{});
  }
  if (i < inputs) {
    step(i, Part{inputs - i});
  }
  for (int64_t m = 0; m < kRows; ++m) {
    for (int64_t o = 0; o < kOutputs; ++o) {
      store(y + m * y_stride + o, splat(sum_lanes<Wide<T>>(sums[m][o])), Part{1});
    }
  }
}

template <int64_t kRows, typename T>
inline void product_rows(T* y, const T* x, const T* weight, int64_t inputs, int64_t outputs, int64_t y_stride) {
  constexpr int64_t kOutputs = kRowSums / kRows >= 4 ? 4 : kRowSums / kRows;
  int64_t o = 0;
  for (; o + kOutputs <= outputs; o += kOutputs) {
    product_tile<kRows, kOutputs>(y + o, x, weight + o * inputs, inputs, y_stride);
  }
  for (; o < outputs; ++o) {
    product_tile<kRows, 1>(y + o, x, weight + o * inputs, inputs, y_stride);
  }
}

template <int64_t kCount>
struct Constant {
  static constexpr int64_t kValue = kCount;
};

// Calls f(first row, how many, as a constant) over groups of rows.
template <int64_t kRows = kRowsTogether, typename F>
inline void for_row_groups(int64_t rows, const F& f) {
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) {
    f(row, Constant<kRows>{});
  }
  if constexpr (kRows > 1) {
    if (row < rows) {
      for_row_groups<kRows - 1>(rows - row, [&](int64_t first, auto count) { f(row + first, count); });
    }
  }
}

template <typename T>
void few_rows(T* y, const T* x, const T* weight, int64_t rows, int64_t inputs, int64_t outputs, int64_t y_stride) {
  for (int64_t o = 0; o < outputs; o += kOutputsTogether) {
    const int64_t count = outputs - o < kOutputsTogether ? outputs - o : kOutputsTogether;
    for_row_groups(rows, [&](int64_t row, auto group) {
      product_rows<decltype(group)::kValue>(y + row * y_stride + o, x + row * inputs, weight + o * inputs, inputs,
                                            count, y_stride);
    });
  }
}

}  // namespace
}  // namespace phi3tune::ops::cpu
