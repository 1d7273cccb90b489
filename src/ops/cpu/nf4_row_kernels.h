// Products of a few rows with an NF4 weight, never written out: its elements are looked up in a register. See
// kernels.h.
//
// float32: the 16 values of a block are computed once. bfloat16: the 16 codes and the elements of x are 15-bit integers
// with a scale for each 64, so that the sums of 64 are exact (AVX512-VNNI; bfloat16 products are slower).
#pragma once

#include "ops/cpu/few_row_kernels.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/vector.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

#include <cfloat>
#include <cstring>
#endif

namespace phi3tune::ops::cpu {
namespace {

#if defined(__AVX512VNNI__)

constexpr int64_t kNf4Group = 64;     // elements that share a scale
constexpr int64_t kNf4Nested = 256;   // blocks of one nested absmax
constexpr int64_t kNf4Ahead = 2048;   // bytes of codes, prefetched
constexpr int64_t kNf4Together = 32;  // rows of the weight that stay in the cache while groups of x pass
constexpr int64_t kNf4Scales = 16;    // groups whose scales are made at once

// Absmax of 16 groups from `group` on, `count` of them valid: a group lies in one block.
class Nf4Scales {
 public:
  Nf4Scales(const Nf4Blocks& weight) : weight_(weight), groups_of_block_(weight.block_size / kNf4Group) {}

  __m512 operator()(int64_t group, int64_t count) const {
    const auto valid = static_cast<__mmask16>((1U << count) - 1U);
    if (groups_of_block_ == 1) {
      return absmax(group, valid);
    }
    const int64_t first = group / groups_of_block_;
    const int64_t blocks = (group + count - 1) / groups_of_block_ - first + 1;
    alignas(64) int32_t index[kNf4Scales];
    for (int64_t i = 0; i < kNf4Scales; ++i) {
      index[i] = static_cast<int32_t>((group + i) / groups_of_block_ - first);
    }
    return _mm512_permutexvar_ps(_mm512_load_si512(index), absmax(first, static_cast<__mmask16>((1U << blocks) - 1U)));
  }

 private:
  __m512 absmax(int64_t block, __mmask16 valid) const {
    if (weight_.absmax != nullptr) {
      return _mm512_maskz_loadu_ps(valid, weight_.absmax + block);
    }
    const __m512i codes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(valid, weight_.nested_codes + block));
    const __m512 values = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), valid, codes, weight_.nested_map, 4);
    const int64_t nested = block / kNf4Nested, before = (nested + 1) * kNf4Nested - block;  // 16 cross one end at most
    __m512 factor = _mm512_set1_ps(weight_.nested_absmax[nested]);
    const auto after = static_cast<__mmask16>(before < kNf4Scales ? valid >> before << before : 0);
    if (after != 0) {
      factor = _mm512_mask_mov_ps(factor, after, _mm512_set1_ps(weight_.nested_absmax[nested + 1]));
    }
    // Two roundings, as the reference multiplies and adds in separate kernels.
    return _mm512_add_ps(__builtin_assoc_barrier(_mm512_mul_ps(values, factor)), _mm512_set1_ps(weight_.offset));
  }

  const Nf4Blocks& weight_;
  int64_t groups_of_block_;
};

// x as a kernel reads it, and the product of some rows of it with one row of the weight.
template <typename T>
struct Nf4Product;

template <>
struct Nf4Product<float> {
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

  explicit Nf4Product(const Nf4Blocks& weight)
      : weight_(weight), code_(_mm512_loadu_ps(weight.code)), absmax_(weight) {}

  template <int64_t kRows, int64_t kOutputs>
  void operator()(float* y, const void* operand, int64_t, int64_t row, int64_t o, int64_t, int64_t inputs,
                  int64_t y_stride) const {
    const uint8_t* packed = weight_.packed + o * (inputs / 2);
    const auto* x = static_cast<const float*>(operand) + row * inputs;
    F32 even[kRows] = {}, odd[kRows] = {};
    const int64_t groups = inputs / kNf4Group;
    for (int64_t first = 0; first < groups; first += kNf4Scales) {
      const int64_t count = groups - first < kNf4Scales ? groups - first : kNf4Scales;
      alignas(64) float scales[kNf4Scales];
      _mm512_store_ps(scales, absmax_(o * groups + first, count));
      for (int64_t g = 0; g < count; ++g, packed += kNf4Group / 2, x += kNf4Group) {
        __builtin_prefetch(packed + kNf4Ahead);
        const __m512 values = rounded(code_ * _mm512_set1_ps(scales[g]));
        for (int64_t half = 0; half < 2; ++half) {
          const __m512i bytes =
              _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(packed + 16 * half)));
          // Bits above an index find the same table again, so a low nibble needs no mask.
          const F32 high = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), values);
          const F32 low = _mm512_permutexvar_ps(bytes, values);
          for (int64_t m = 0; m < kRows; ++m) {
            const float* at = x + m * inputs + 16 * half;
            even[m] = even[m] + load(at, Full{}) * high;
            odd[m] = odd[m] + load(at + kNf4Group / 2, Full{}) * low;
          }
        }
      }
    }
    for (int64_t m = 0; m < kRows; ++m) {
      y[(row + m) * y_stride + o] = sum_lanes<float>(even[m] + odd[m]);
    }
  }

 private:
  __m512 rounded(__m512 values) const {
    if (weight_.source == Nf4Source::kHalf) {
      return _mm512_cvtph_ps(_mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    return weight_.source == Nf4Source::kBf16 ? round_to(values, static_cast<const Bf16*>(nullptr)) : values;
  }

  const Nf4Blocks& weight_;
  __m512 code_;
  Nf4Scales absmax_;
};

template <>
struct Nf4Product<Bf16> {
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

  explicit Nf4Product(const Nf4Blocks& weight) : weight_(weight), absmax_(weight) {
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

template <typename T>
void nf4_product(T* y, const void* operand, const Nf4Blocks& weight, int64_t rows, int64_t inputs, int64_t first,
                 int64_t last, int64_t y_stride) {
  const Nf4Product<T> product(weight);
  const int64_t together = rows <= kRowsTogether ? last - first : kNf4Together;
  for (int64_t begin = first; begin < last; begin += together) {
    const int64_t end = last - begin < together ? last : begin + together;
    for_row_groups(rows, [&](int64_t row, auto group) {
      constexpr int64_t kRows = decltype(group)::kValue;
      constexpr int64_t kOutputs = Nf4Product<T>::outputs_together(kRows);
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
  if constexpr (sizeof(T) == sizeof(double)) {
    return {};
  } else {
    return {Nf4Product<T>::operand_bytes, Nf4Product<T>::prepare, nf4_product<T>};
  }
}

#else

template <typename T>
constexpr Nf4Kernel<T> nf4_kernel() {
  return {};
}

#endif

}  // namespace
}  // namespace phi3tune::ops::cpu
