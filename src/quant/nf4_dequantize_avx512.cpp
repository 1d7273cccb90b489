// Compiled for AVX-512: no inline function of a standard header may be instantiated here, since the linker could keep
// this copy for every processor.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 reports its own _mm512_undefined values
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include "quant/nf4_blocks.h"

namespace phi3tune::quant {
namespace {

// fp32 rounded to bf16, as fp32. Integer arithmetic, since the conversion instruction flushes subnormals.
inline __m512 round_bf16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
  const __m512i rounded = _mm512_and_si512(sum, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7FC00000)));
}

inline __m256i to_f16(__m512 x) { return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

template <FloatType kType>
inline __m512 round_to(__m512 x) {
  if constexpr (kType == FloatType::kBF16) {
    return round_bf16(x);
  } else if constexpr (kType == FloatType::kF16) {
    return _mm512_cvtph_ps(to_f16(x));
  } else {
    return x;
  }
}

// The 16 results as 16-bit words, twice.
template <FloatType kSource, FloatType kTarget>
inline __m512i word_table(__m512 values) {
  __m256i words;
  if constexpr (kTarget == FloatType::kBF16) {
    const __m512 rounded = kSource == FloatType::kBF16 ? values : round_bf16(values);
    words = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(rounded), 16));
  } else {
    words = to_f16(values);
  }
  return _mm512_broadcast_i64x4(words);
}

// Bytes to pairs of indices, high nibble first. The look-up ignores the bits above an index, or finds a table that
// repeats there, so the second of a pair needs no mask.
inline __m512i word_indices(const uint8_t* packed) {
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(packed)));
  return _mm512_or_si512(_mm512_srli_epi32(bytes, 4), _mm512_slli_epi32(bytes, 16));
}

inline __m512i dword_indices(const uint8_t* packed) {
  const __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(packed)));
  return _mm512_or_si512(_mm512_srli_epi64(bytes, 4), _mm512_slli_epi64(bytes, 32));
}

template <bool kStream>
inline void store(char* out, __m512i values) {
  if constexpr (kStream) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(out), values);
  } else {
    _mm512_storeu_si512(out, values);
  }
}

template <FloatType kSource, FloatType kTarget, bool kStream>
void dequantize(const BlockRun& run) {
  const __m512 code = _mm512_loadu_ps(run.code);
  const uint8_t* packed = run.packed;
  char* out = static_cast<char*>(run.out);
  for (int64_t block = 0; block < run.blocks; ++block) {
    const __m512 values = round_to<kSource>(_mm512_mul_ps(code, _mm512_set1_ps(run.absmax[block])));
    if constexpr (kTarget == FloatType::kF32) {
      for (int64_t i = 0; i < run.block_size; i += 16, packed += 8, out += 64) {
        store<kStream>(out, _mm512_castps_si512(_mm512_permutexvar_ps(dword_indices(packed), values)));
      }
    } else {
      const __m512i table = word_table<kSource, kTarget>(values);
      for (int64_t i = 0; i < run.block_size; i += 32, packed += 16, out += 64) {
        store<kStream>(out, _mm512_permutexvar_epi16(word_indices(packed), table));
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

void dequantize_blocks_avx512(const BlockRun& run) {
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
