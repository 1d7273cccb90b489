// Compiled for AVX2: no inline function of a standard header may be instantiated here, since the linker could keep this
// copy for every processor.
#include <immintrin.h>

#include "quant/nf4_blocks.h"

namespace phi3tune::quant {
namespace {

struct Values {  // the 16 results of a block
  __m256 low;    // of codes 0 to 7
  __m256 high;   // of codes 8 to 15
};

// fp32 rounded to bf16, as fp32.
inline __m256 round_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
  const __m256i rounded = _mm256_and_si256(sum, _mm256_set1_epi32(static_cast<int>(0xFFFF0000U)));
  const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  return _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(_mm256_set1_epi32(0x7FC00000)), nan);
}

inline __m128i to_f16(__m256 x) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

template <FloatType kType>
inline __m256 round_to(__m256 x) {
  if constexpr (kType == FloatType::kBF16) {
    return round_bf16(x);
  } else if constexpr (kType == FloatType::kF16) {
    return _mm256_cvtph_ps(to_f16(x));
  } else {
    return x;
  }
}

struct ByteTables {  // lower and upper bytes of the 16 results as 16-bit words, in both lanes
  __m256i lower;
  __m256i upper;
};

template <FloatType kTarget>
inline ByteTables byte_tables(Values values) {
  __m256i words;
  if constexpr (kTarget == FloatType::kBF16) {
    const __m256i low = _mm256_srli_epi32(_mm256_castps_si256(round_bf16(values.low)), 16);
    const __m256i high = _mm256_srli_epi32(_mm256_castps_si256(round_bf16(values.high)), 16);
    words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8);
  } else {
    words = _mm256_set_m128i(to_f16(values.high), to_f16(values.low));
  }
  const __m256i lower = _mm256_and_si256(words, _mm256_set1_epi16(0xFF));
  const __m256i upper = _mm256_srli_epi16(words, 8);
  return {_mm256_permute4x64_epi64(_mm256_packus_epi16(lower, lower), 0x88),
          _mm256_permute4x64_epi64(_mm256_packus_epi16(upper, upper), 0x88)};
}

template <bool kStream>
inline void store(char* out, __m256i values) {
  if constexpr (kStream) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(out), values);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), values);
  }
}

// 16 bytes to 32 words.
template <bool kStream>
inline void look_up_words(const uint8_t* packed, ByteTables tables, char* out) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed));
  const __m128i mask = _mm_set1_epi8(15);
  const __m128i first = _mm_and_si128(_mm_srli_epi16(bytes, 4), mask);
  const __m128i second = _mm_and_si128(bytes, mask);
  const __m256i indices = _mm256_set_m128i(_mm_unpackhi_epi8(first, second), _mm_unpacklo_epi8(first, second));
  const __m256i lower = _mm256_shuffle_epi8(tables.lower, indices);
  const __m256i upper = _mm256_shuffle_epi8(tables.upper, indices);
  const __m256i even = _mm256_unpacklo_epi8(lower, upper);  // words 0-7 and 16-23
  const __m256i odd = _mm256_unpackhi_epi8(lower, upper);   // words 8-15 and 24-31
  store<kStream>(out, _mm256_permute2x128_si256(even, odd, 0x20));
  store<kStream>(out + 32, _mm256_permute2x128_si256(even, odd, 0x31));
}

// 4 bytes to 8 floats.
template <bool kStream>
inline void look_up_floats(const uint8_t* packed, Values values, char* out) {
  const __m256i bytes = _mm256_cvtepu8_epi64(_mm_loadu_si32(packed));
  const __m256i indices = _mm256_or_si256(_mm256_srli_epi64(bytes, 4), _mm256_slli_epi64(bytes, 32));
  const __m256 low = _mm256_permutevar8x32_ps(values.low, indices);
  const __m256 high = _mm256_permutevar8x32_ps(values.high, indices);
  const __m256 upper_half = _mm256_castsi256_ps(_mm256_slli_epi32(indices, 28));  // bit 3 to the sign
  store<kStream>(out, _mm256_castps_si256(_mm256_blendv_ps(low, high, upper_half)));
}

template <FloatType kSource, FloatType kTarget, bool kStream>
void dequantize(const BlockRun& run) {
  const __m256 code_low = _mm256_loadu_ps(run.code);
  const __m256 code_high = _mm256_loadu_ps(run.code + 8);
  const uint8_t* packed = run.packed;
  char* out = static_cast<char*>(run.out);
  for (int64_t block = 0; block < run.blocks; ++block) {
    const __m256 absmax = _mm256_set1_ps(run.absmax[block]);
    const Values values = {round_to<kSource>(_mm256_mul_ps(code_low, absmax)),
                           round_to<kSource>(_mm256_mul_ps(code_high, absmax))};
    if constexpr (kTarget == FloatType::kF32) {
      for (int64_t i = 0; i < run.block_size; i += 8, packed += 4, out += 32) {
        look_up_floats<kStream>(packed, values, out);
      }
    } else {
      const ByteTables tables = byte_tables<kTarget>(values);
      for (int64_t i = 0; i < run.block_size; i += 32, packed += 16, out += 64) {
        look_up_words<kStream>(packed, tables, out);
      }
    }
  }
}

template <FloatType kSource, FloatType kTarget>
void dequantize_with_stores(const BlockRun& run) {
  if (run.stream) {
    dequantize<kSource, kTarget, true>(run);
    _mm_sfence();  // other threads may read as soon as this one says it is done
  } else {
    dequantize<kSource, kTarget, false>(run);
  }
}

template <FloatType kSource>
void dequantize_to(const BlockRun& run) {
  switch (run.target) {
    case FloatType::kF32:
      return dequantize_with_stores<kSource, FloatType::kF32>(run);
    case FloatType::kBF16:
      return dequantize_with_stores<kSource, FloatType::kBF16>(run);
    case FloatType::kF16:
      return dequantize_with_stores<kSource, FloatType::kF16>(run);
  }
}

}  // namespace

void dequantize_blocks_avx2(const BlockRun& run) {
  switch (run.source) {
    case FloatType::kF32:
      return dequantize_to<FloatType::kF32>(run);
    case FloatType::kBF16:
      return dequantize_to<FloatType::kBF16>(run);
    case FloatType::kF16:
      return dequantize_to<FloatType::kF16>(run);
  }
}

}  // namespace phi3tune::quant
