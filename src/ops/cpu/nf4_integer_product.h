// Products of a few bfloat16 rows with an NF4 weight: the 16 codes and the elements of x are 15-bit integers with a
// scale for each 64, so that the sums of 64 are exact (AVX512-VNNI; bfloat16 products are slower). See kernels.h.
#pragma once

#if defined(__AVX512VNNI__)
#include <immintrin.h>

#include <cfloat>
#include <cstring>

#include "ops/cpu/few_row_kernels.h"
#include "ops/cpu/nf4_scales.h"
#include "ops/cpu/vector.h"

namespace phi3tune::ops::cpu {
namespace {

struct Nf4IntegerProduct {
  // Two groups at a time, as 32 words of 4 codes hold them: word j's codes in the order of its bits are elements 4j +
  // 1, 4j, 4j + 3 and 4j + 2. For each pair of groups the integers of every row; then of every row the groups' scales.
  // An odd last group is paired with zeros.
  static constexpr int64_t kPair = 2 * kNf4Group;
  static constexpr int64_t kLargest = 16383;  // of both integers: eight products fit in 32 bits
  static int64_t pairs(int64_t inputs) { return (inputs + kPair - 1) / kPair; }
  static int64_t scales_of(int64_t inputs) { return (2 * pairs(inputs) + kNf4Scales - 1) / kNf4Scales * kNf4Scales; }
  static int64_t operand_bytes(int64_t rows, int64_t inputs) {
    return rows * (pairs(inputs) * kPair * int64_t{sizeof(int16_t)} + scales_of(inputs) * int64_t{sizeof(float)});
  }

  static void prepare(void* operand, const Bf16* x, int64_t rows, int64_t inputs) {
    auto* integers = static_cast<int16_t*>(operand);
    auto* scales = reinterpret_cast<float*>(integers + rows * pairs(inputs) * kPair);
    std::memset(operand, 0, static_cast<size_t>(operand_bytes(rows, inputs)));
    constexpr int64_t kElement[4] = {1, 0, 3, 2};
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t group = 0; group < inputs / kNf4Group; ++group) {
        alignas(64) int16_t ordered[kNf4Group];
        scales[row * scales_of(inputs) + group] = to_integers(ordered, x + row * inputs + group * kNf4Group);
        int16_t* to = integers + (group / 2 * rows + row) * kPair + group % 2 * (kPair / 8);
        for (int64_t part = 0; part < 4; ++part) {
          for (int64_t j = 0; j < kPair / 8; ++j) {
            to[part * (kPair / 4) + j] = ordered[4 * j + kElement[part]];
          }
        }
      }
    }
  }

  static constexpr int64_t outputs_together(int64_t rows) { return rows <= 4 ? 4 : 2; }

  explicit Nf4IntegerProduct(const Nf4Blocks& weight) : weight_(weight), absmax_(weight) {
    const __m512 code = _mm512_loadu_ps(weight.code);
    const float largest = _mm512_reduce_max_ps(_mm512_abs_ps(code));
    unit_ = largest / kLargest;
    const __m512i integers =
        _mm512_cvtps_epi32(_mm512_mul_ps(code, _mm512_set1_ps(largest > 0 ? kLargest / largest : 0.0F)));
    table_ = _mm512_broadcast_i64x4(_mm512_cvtsepi32_epi16(integers));
  }

  // kOutputs rows of the weight, `apart` from one to the next: each is a stream of its own for the processor, and goes
  // on in the next call.
  template <int64_t kRows, int64_t kOutputs>
  void operator()(Bf16* y, const void* operand, int64_t rows, int64_t row, int64_t o, int64_t apart, int64_t inputs,
                  int64_t y_stride) const {
    const uint8_t* packed = weight_.packed + o * (inputs / 2);
    const int64_t groups = inputs / kNf4Group;
    const int16_t* x = static_cast<const int16_t*>(operand) + row * kPair;
    const auto* x_scales =
        reinterpret_cast<const float*>(static_cast<const int16_t*>(operand) + rows * pairs(inputs) * kPair) +
        row * scales_of(inputs);
    F32 sums[kRows][kOutputs] = {};
    alignas(64) float scales[kRows][kOutputs][kNf4Scales];
    const auto add_pair = [&](int64_t g, auto load_codes) {
      for (int64_t k = 0; k < kOutputs; ++k) {
        const uint8_t* codes = packed + k * apart * (inputs / 2);
        __builtin_prefetch(codes + kNf4Ahead);
        const __m512i words = load_codes(codes);
        // Bits above an index find the same table again, so no code needs a mask. The last shift is a product because
        // shifts and look-ups share a port.
        const __m512i parts[4] = {
            _mm512_permutexvar_epi16(words, table_), _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4), table_),
            _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 8), table_),
            _mm512_permutexvar_epi16(_mm512_mulhi_epu16(words, _mm512_set1_epi16(1 << 4)), table_)};
        for (int64_t m = 0; m < kRows; ++m) {
          __m512i sum = _mm512_setzero_si512();
          for (int64_t part = 0; part < 4; ++part) {
            sum = _mm512_dpwssd_epi32(sum, parts[part], _mm512_loadu_si512(x + m * kPair + part * (kPair / 4)));
          }
          const float* pair = scales[m][k] + g;
          const __m512 scale = _mm512_mask_broadcastss_ps(_mm512_set1_ps(pair[0]), 0xFF00, _mm_load_ss(pair + 1));
          sums[m][k] = sums[m][k] + F32(_mm512_cvtepi32_ps(sum)) * F32(scale);
        }
      }
      packed += kPair / 2;
      x += rows * kPair;
    };
    for (int64_t first = 0; first < groups; first += kNf4Scales) {
      const int64_t count = groups - first < kNf4Scales ? groups - first : kNf4Scales;
      for (int64_t k = 0; k < kOutputs; ++k) {
        const __m512 absmax = absmax_((o + k * apart) * groups + first, count) * _mm512_set1_ps(unit_);
        for (int64_t m = 0; m < kRows; ++m) {
          _mm512_store_ps(scales[m][k], absmax * _mm512_loadu_ps(x_scales + m * scales_of(inputs) + first));
        }
      }
      int64_t g = 0;
      for (; g + 2 <= count; g += 2) {
        add_pair(g, [](const uint8_t* codes) { return _mm512_loadu_si512(codes); });
      }
      if (g < count) {
        add_pair(g, [](const uint8_t* codes) { return _mm512_maskz_loadu_epi32(0x00FF, codes); });
      }
    }
    for (int64_t m = 0; m < kRows; ++m) {
      for (int64_t k = 0; k < kOutputs; ++k) {
        store(y + (row + m) * y_stride + o + k * apart, splat(_mm512_reduce_add_ps(sums[m][k])), Part{1});
      }
    }
  }

 private:
  // The scale of 64 values; NaN if one is not finite.
  static float to_integers(int16_t* integers, const Bf16* x) {
    F32 values[kNf4Group / kLanes<float>];
    __m512 largest = _mm512_setzero_ps(), difference = _mm512_setzero_ps();
    for (int64_t i = 0; i < 4; ++i) {
      values[i] = load(x + i * kLanes<float>, Full{});
      largest = _mm512_max_ps(largest, _mm512_abs_ps(values[i]));
      difference = difference + (values[i] - values[i]);  // NaN where it is not finite
    }
    const float most = _mm512_reduce_max_ps(largest), unsound = _mm512_reduce_add_ps(difference);
    // The factor stays finite for the smallest values.
    const float factor = most > kLargest / FLT_MAX ? kLargest / most : most > 0 ? FLT_MAX : 0.0F;
    for (int64_t i = 0; i < 4; ++i) {
      const __m512i rounded = _mm512_cvtps_epi32(unsound == 0.0F ? values[i] * factor : splat(0.0F));
      _mm256_store_si256(reinterpret_cast<__m256i*>(integers + i * kLanes<float>), _mm512_cvtsepi32_epi16(rounded));
    }
    return factor > 0 ? 1.0F / factor + unsound : unsound;
  }

  const Nf4Blocks& weight_;
  __m512i table_;
  float unit_;
  Nf4Scales absmax_;
};

}  // namespace
}  // namespace phi3tune::ops::cpu

#endif
