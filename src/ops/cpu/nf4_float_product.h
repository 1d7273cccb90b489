// Products of a few float32 rows with an NF4 weight: the 16 values of a block are computed once, its elements looked up
// in registers (AVX-512, AVX2). See kernels.h.
#pragma once

#include "ops/cpu/few_row_kernels.h"
#include "ops/cpu/nf4_scales.h"
#include "ops/cpu/vector.h"

#if defined(__AVX2__)
#include <immintrin.h>

namespace phi3tune::ops::cpu {
namespace {

#if defined(__AVX512F__)

struct Nf4Values {
  F32 all;

  static Nf4Values of(const float* code) { return {load(code, Full{})}; }
  // The elements that the low four bits of each index name.
  F32 operator[](I32 indices) const { return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(indices), all); }
  template <typename F>
  Nf4Values each(const F& f) const {
    return {f(all)};
  }
};

inline I32 widened_bytes(const uint8_t* from) {
  return reinterpret_cast<I32>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
inline F32 round_to_half(F32 values) {
  return _mm512_cvtph_ps(_mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#else

struct Nf4Values {
  F32 first, second;  // of codes 0 to 7, and 8 to 15

  static Nf4Values of(const float* code) { return {load(code, Full{}), load(code + 8, Full{})}; }
  // The elements that the low four bits of each index name. The blend looks at the sign alone.
  F32 operator[](I32 indices) const {
    const auto index = reinterpret_cast<__m256i>(indices);
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(first, index), _mm256_permutevar8x32_ps(second, index),
                            _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
  }
  template <typename F>
  Nf4Values each(const F& f) const {
    return {f(first), f(second)};
  }
};

inline I32 widened_bytes(const uint8_t* from) {
  return reinterpret_cast<I32>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}
inline F32 round_to_half(F32 values) {
  return _mm256_cvtph_ps(_mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#endif

struct Nf4FloatProduct {
  // Of each 64 elements the 32 with an even index come first.
  static int64_t operand_bytes(int64_t rows, int64_t inputs) { return rows * inputs * int64_t{sizeof(float)}; }
  static void prepare(void* operand, const float* x, int64_t rows, int64_t inputs) {
    auto* to = static_cast<float*>(operand);
    for (int64_t i = 0; i < rows * inputs; i += kNf4Group) {
      for (int64_t j = 0; j < kNf4Group / 2; ++j) {
        to[i + j] = x[i + 2 * j];
        to[i + kNf4Group / 2 + j] = x[i + 2 * j + 1];
      }
    }
  }

  static constexpr int64_t outputs_together(int64_t) { return 1; }

  explicit Nf4FloatProduct(const Nf4Blocks& weight)
      : weight_(weight), code_(Nf4Values::of(weight.code)), absmax_(weight) {}

  template <int64_t kRows, int64_t kOutputs>
  void operator()(float* y, const void* operand, int64_t, int64_t row, int64_t o, int64_t, int64_t inputs,
                  int64_t y_stride) const {
    constexpr int64_t kChains = kVectorBytes == 64 ? 2 : 1;  // of sums; AVX2 has half the registers
    const uint8_t* packed = weight_.packed + o * (inputs / 2);
    const auto* x = static_cast<const float*>(operand) + row * inputs;
    F32 sums[kRows][kChains] = {};
    const int64_t groups = inputs / kNf4Group;
    for (int64_t first = 0; first < groups; first += kNf4Scales) {
      const int64_t count = groups - first < kNf4Scales ? groups - first : kNf4Scales;
      float scales[kNf4Scales];
      absmax_.store(scales, o * groups + first, count);
      for (int64_t g = 0; g < count; ++g, packed += kNf4Group / 2, x += kNf4Group) {
        __builtin_prefetch(packed + kNf4Ahead);
        const Nf4Values values = code_.each([&](F32 code) { return rounded(code * scales[g]); });
        for (int64_t i = 0; i < kNf4Group / 2; i += kLanes<float>) {
          const I32 bytes = widened_bytes(packed + i);
          const F32 high = values[bytes >> 4], low = values[bytes];  // the even element is the high nibble
          for (int64_t m = 0; m < kRows; ++m) {
            const float* at = x + m * inputs + i;
            F32& even = sums[m][0];
            F32& odd = sums[m][kChains - 1];
            even = even + load(at, Full{}) * high;
            odd = odd + load(at + kNf4Group / 2, Full{}) * low;
          }
        }
      }
    }
    for (int64_t m = 0; m < kRows; ++m) {
      const F32 sum = kChains == 1 ? sums[m][0] : sums[m][0] + sums[m][kChains - 1];
      y[(row + m) * y_stride + o] = sum_lanes<float>(sum);
    }
  }

 private:
  // To the dtype that the weight had.
  F32 rounded(F32 values) const {
    if (weight_.source == Nf4Source::kHalf) {
      return round_to_half(values);
    }
    return weight_.source == Nf4Source::kBf16 ? round_to(values, static_cast<const Bf16*>(nullptr)) : values;
  }

  const Nf4Blocks& weight_;
  Nf4Values code_;
  Nf4Scales absmax_;
};

}  // namespace
}  // namespace phi3tune::ops::cpu

#endif
