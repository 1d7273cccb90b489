// Products of a few rows with an NF4 weight, never written out. See kernels.h.
#pragma once

#include "ops/cpu/few_row_kernels.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/nf4_float_product.h"
#include "ops/cpu/nf4_integer_product.h"

namespace phi3tune::ops::cpu {
namespace {

// What this instruction set has for rows of T.
template <typename T>
struct Nf4ProductOf {
  static constexpr bool kExists = false;
};
#if defined(__AVX2__)
template <>
struct Nf4ProductOf<float> {
  static constexpr bool kExists = true;
  using Type = Nf4FloatProduct;
};
#endif
#if defined(__AVX512VNNI__)
template <>
struct Nf4ProductOf<Bf16> {
  static constexpr bool kExists = true;
  using Type = Nf4IntegerProduct;
};
#endif

constexpr int64_t kNf4Together = 32;  // rows of the weight that stay in the cache while groups of x pass

template <typename Product, typename T>
void nf4_product(T* y, const void* operand, const Nf4Blocks& weight, int64_t rows, int64_t inputs, int64_t first,
                 int64_t last, int64_t y_stride) {
  const Product product(weight);
  const int64_t together = rows <= kRowsTogether ? last - first : kNf4Together;
  for (int64_t begin = first; begin < last; begin += together) {
    const int64_t end = last - begin < together ? last : begin + together;
    for_row_groups(rows, [&](int64_t row, auto group) {
      constexpr int64_t kRows = decltype(group)::kValue;
      constexpr int64_t kOutputs = Product::outputs_together(kRows);
      const int64_t apart = (end - begin) / kOutputs;
      for (int64_t o = begin; o < begin + apart; ++o) {
        product.template operator()<kRows, kOutputs>(y, operand, rows, row, o, apart, inputs, y_stride);
      }
      for (int64_t o = begin + apart * kOutputs; o < end; ++o) {
        product.template operator()<kRows, 1>(y, operand, rows, row, o, 1, inputs, y_stride);
      }
    });
  }
}

template <typename T>
constexpr Nf4Kernel<T> nf4_kernel() {
  if constexpr (Nf4ProductOf<T>::kExists) {
    using Product = typename Nf4ProductOf<T>::Type;
    return {Product::operand_bytes, Product::prepare, nf4_product<Product, T>};
  } else {
    return {};
  }
}

}  // namespace
}  // namespace phi3tune::ops::cpu
