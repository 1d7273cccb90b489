// Products of a few rows with an NF4 weight, never written out: each block's 16 possible values are computed once, and
// its elements looked up in a register. See kernels.h.
//
// The values are those of quant::dequantize_nf4 (but subnormal bfloat16 values, which count as 0).
#pragma once

#include "ops/cpu/few_row_kernels.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/vector.h"

namespace phi3tune::ops::cpu {
namespace {

#if defined(__AVX512BF16__)

constexpr int64_t kNf4Group = 64;     // elements whose even ones lie before the odd ones in the spread x
constexpr int64_t kNf4Nested = 256;   // blocks of one nested absmax
constexpr int64_t kNf4Ahead = 2048;   // bytes of codes, prefetched
constexpr int64_t kNf4Together = 32;  // rows of the weight that stay in the cache while groups of x pass

inline __m512 half_precision(__m512 x) {
  return _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline __m512 bf16_precision(__m512 x) { return round_to(x, static_cast<const Bf16*>(nullptr)); }

// The elements of a group of codes in a block with these 16 `values`: kParts vectors, those of even elements first.
template <typename T>
struct Nf4Lookup;

template <>
struct Nf4Lookup<Bf16> {
  static constexpr int64_t kParts = 2;
  __m512i table;
  Nf4Lookup(__m512 values) : table(_mm512_broadcast_i64x4(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)))) {}
  // Bits above an index find the same table again, so a low nibble needs no mask.
  void look_up(const uint8_t* packed, __m512bh* parts) const {
    const __m512i bytes = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(packed)));
    parts[0] = reinterpret_cast<__m512bh>(_mm512_permutexvar_epi16(_mm512_srli_epi16(bytes, 4), table));
    parts[1] = reinterpret_cast<__m512bh>(_mm512_permutexvar_epi16(bytes, table));
  }
};

template <>
struct Nf4Lookup<float> {
  static constexpr int64_t kParts = 4;
  __m512 table;
  Nf4Lookup(__m512 values) : table(values) {}
  void look_up(const uint8_t* packed, F32* parts) const {
    for (int64_t half = 0; half < 2; ++half) {
      const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(packed + 16 * half)));
      parts[half] = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), table);
      parts[2 + half] = _mm512_permutexvar_ps(bytes, table);
    }
  }
};

// Absmax of the blocks in ascending order.
template <bool kDouble>
class Nf4Scales {
 public:
  explicit Nf4Scales(const Nf4Blocks& weight) : weight_(weight) {}
  // Blocks from `block` on that may be asked for next.
  int64_t run(int64_t block) {
    if constexpr (kDouble) {
      const int64_t group = block / kNf4Nested;
      if (group != group_) {
        group_ = group;
        const F32 factor = splat(weight_.nested_absmax[group]);
        for (int64_t i = 0; i < 256; i += kLanes<float>) {
          // Two roundings, as the reference multiplies and adds in separate kernels.
          const F32 product = __builtin_assoc_barrier(load(weight_.nested_map + i, Full{}) * factor);
          store(absmax_ + i, product + weight_.offset, Full{});
        }
      }
      return kNf4Nested - block % kNf4Nested;
    } else {
      return INT64_MAX;
    }
  }
  __m512 operator()(int64_t block) const {
    return _mm512_set1_ps(kDouble ? absmax_[weight_.nested_codes[block]] : weight_.absmax[block]);
  }

 private:
  const Nf4Blocks& weight_;
  int64_t group_ = -1;
  float absmax_[256];
};

// Rounds to what the weight was before; nothing to do where the look-up's table rounds to it anyway.
template <typename T>
inline __m512 source_precision(__m512 values, Nf4Source source) {
  if (source == Nf4Source::kHalf) {
    return half_precision(values);
  }
  return sizeof(T) == sizeof(float) && source == Nf4Source::kBf16 ? bf16_precision(values) : values;
}

template <int64_t kRows, bool kDouble, typename T>
inline void nf4_row(T* y, const T* x, const Nf4Blocks& weight, Nf4Scales<kDouble>& scales, int64_t inputs, int64_t o,
                    int64_t y_stride) {
  using P = Products<T>;
  constexpr int64_t kParts = Nf4Lookup<T>::kParts;
  typename P::Sums even[kRows] = {}, odd[kRows] = {};
  const __m512 code = _mm512_loadu_ps(weight.code);
  const int64_t blocks = inputs / weight.block_size;
  const uint8_t* packed = weight.packed + o * (inputs / 2);
  for (int64_t block = o * blocks, end = block + blocks; block < end;) {
    const int64_t ready = scales.run(block);
    const int64_t stop = ready < end - block ? block + ready : end;
    for (; block < stop; ++block) {
      const Nf4Lookup<T> lookup(source_precision<T>(code * scales(block), weight.source));
      for (int64_t i = 0; i < weight.block_size; i += kNf4Group, packed += kNf4Group / 2, x += kNf4Group) {
        typename P::Values parts[kParts];
        __builtin_prefetch(packed + kNf4Ahead);
        lookup.look_up(packed, parts);
        for (int64_t m = 0; m < kRows; ++m) {
          for (int64_t part = 0; part < kParts; ++part) {
            auto& sum = part < kParts / 2 ? even[m] : odd[m];
            sum = P::add(sum, P::values(x + m * inputs + part * P::kStep, Full{}), parts[part]);
          }
        }
      }
    }
  }
  for (int64_t m = 0; m < kRows; ++m) {
    store(y + m * y_stride + o, splat(sum_lanes<float>(even[m] + odd[m])), Part{1});
  }
}

template <bool kDouble, typename T>
void nf4_outputs(T* y, const T* x, const Nf4Blocks& weight, int64_t rows, int64_t inputs, int64_t first, int64_t last,
                 int64_t y_stride) {
  for (int64_t begin = first; begin < last; begin += kNf4Together) {
    const int64_t end = last - begin < kNf4Together ? last : begin + kNf4Together;
    for_row_groups(rows, [&](int64_t row, auto group) {
      Nf4Scales<kDouble> scales(weight);
      for (int64_t o = begin; o < end; ++o) {
        nf4_row<decltype(group)::kValue>(y + row * y_stride, x + row * inputs, weight, scales, inputs, o, y_stride);
      }
    });
  }
}

template <typename T>
void nf4_rows(T* y, const T* x, const Nf4Blocks& weight, int64_t rows, int64_t inputs, int64_t first, int64_t last,
              int64_t y_stride) {
  if (weight.absmax == nullptr) {
    nf4_outputs<true>(y, x, weight, rows, inputs, first, last, y_stride);
  } else {
    nf4_outputs<false>(y, x, weight, rows, inputs, first, last, y_stride);
  }
}

template <typename T>
constexpr Nf4Kernel<T> nf4_kernel() {
  if constexpr (sizeof(T) == sizeof(double)) {
    return nullptr;
  } else {
    return nf4_rows<T>;
  }
}

#else

template <typename T>
constexpr Nf4Kernel<T> nf4_kernel() {
  return nullptr;
}

#endif

}  // namespace
}  // namespace phi3tune::ops::cpu
