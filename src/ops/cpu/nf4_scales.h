// The scales of an NF4 weight's groups: absmax, restored where it is quantised itself.
#pragma once

#include "ops/cpu/kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>

namespace phi3tune::ops::cpu {
namespace {

constexpr int64_t kNf4Group = 64;    // elements that share a scale
constexpr int64_t kNf4Nested = 256;  // blocks of one nested absmax
constexpr int64_t kNf4Scales = 16;   // groups whose scales are made at once

#if defined(__AVX512F__)

class Nf4Scales {
 public:
  Nf4Scales(const Nf4Blocks& weight) : weight_(weight), groups_of_block_(weight.block_size / kNf4Group) {}

  void store(float* scales, int64_t group, int64_t count) const { _mm512_storeu_ps(scales, (*this)(group, count)); }

  // Absmax of 16 groups from `group` on, `count` of them valid: a group lies in one block.
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

#else

class Nf4Scales {
 public:
  Nf4Scales(const Nf4Blocks& weight) : weight_(weight), groups_of_block_(weight.block_size / kNf4Group) {}

  // Absmax of `count` groups from `group` on.
  void store(float* scales, int64_t group, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) {
      scales[i] = absmax((group + i) / groups_of_block_);
    }
  }

 private:
  float absmax(int64_t block) const {
    if (weight_.absmax != nullptr) {
      return weight_.absmax[block];
    }
    const float value = weight_.nested_map[weight_.nested_codes[block]];
    // Two roundings, as the reference multiplies and adds in separate kernels.
    return __builtin_assoc_barrier(value * weight_.nested_absmax[block / kNf4Nested]) + weight_.offset;
  }

  const Nf4Blocks& weight_;
  int64_t groups_of_block_;
};

#endif

}  // namespace
}  // namespace phi3tune::ops::cpu

#endif
