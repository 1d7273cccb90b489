#include "phi3/random_weights.h"

#include <bit>

#include "phi3tune/core/error.h"
#include "phi3tune/core/split_mix.h"

namespace phi3tune::phi3 {
namespace {

constexpr int32_t kMean = 262140;  // 8 * 65535 / 2
// 0.02 / sqrt(8 * (2^32 - 1) / 12) rounded to float: 0.02 is transformers' initializer_range.
constexpr float kScale = 0x1.91530cp-22F;

constexpr uint64_t fnv1a64(std::string_view text) noexcept {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  }
  return hash;
}

// Two sums of two 16-bit numbers each, in the halves of a 64-bit word.
constexpr uint64_t pair_sums(uint64_t word) noexcept {
  constexpr uint64_t kLow = 0x0000FFFF0000FFFFU;
  return (word & kLow) + ((word >> 16) & kLow);
}

inline float element(uint64_t key, uint64_t index) noexcept {
  const uint64_t first = key + (2 * index + 1) * kGoldenStep;
  const uint64_t sums = pair_sums(split_mix(first)) + pair_sums(split_mix(first + kGoldenStep));
  const auto total = static_cast<int32_t>((sums & 0xFFFFFFFFU) + (sums >> 32));
  return static_cast<float>(total - kMean) * kScale;
}

template <typename T, typename Convert>
void fill_as(uint64_t key, uint64_t begin, uint64_t count, void* out, Convert convert) {
  auto* values = static_cast<T*>(out);
  for (uint64_t i = 0; i < count; ++i) {
    values[i] = convert(element(key, begin + i));
  }
}

}  // namespace

RandomWeights::RandomWeights(uint64_t seed, std::string_view name)
    : key_(split_mix(split_mix(seed + kGoldenStep) ^ fnv1a64(name))) {}

float RandomWeights::value(uint64_t index) const noexcept { return element(key_, index); }

void RandomWeights::fill(io::DType dtype, uint64_t begin, uint64_t count, void* out) const {
  switch (dtype) {
    case io::DType::kF32:
      return fill_as<float>(key_, begin, count, out, [](float x) { return x; });
    case io::DType::kBF16:
      return fill_as<uint16_t>(key_, begin, count, out, to_bf16);
    case io::DType::kF16:
      return fill_as<uint16_t>(key_, begin, count, out, to_f16);
    default:
      throw InternalError("internal error: random weights of dtype {}", io::dtype_name(dtype));
  }
}

uint16_t to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

uint16_t to_f16(float value) noexcept {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude >= 0x477FF000) {  // 65520 and above round to infinity
    return static_cast<uint16_t>(sign | 0x7C00);
  }
  if (magnitude >= 0x38800000) {  // normal from 2^-14
    const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
  }
  const uint32_t exponent = magnitude >> 23;
  if (exponent < 102) {  // below half of the smallest subnormal, 2^-25
    return static_cast<uint16_t>(sign);
  }
  const uint32_t mantissa = (magnitude & 0x7FFFFF) | 0x800000;
  const uint32_t shift = 126 - exponent;
  const uint32_t half = 1U << (shift - 1);
  const uint32_t kept = mantissa >> shift;
  const uint32_t rest = mantissa & ((1U << shift) - 1);
  const uint32_t up = rest > half || (rest == half && (kept & 1) != 0) ? 1 : 0;
  return static_cast<uint16_t>(sign | (kept + up));
}

}  // namespace phi3tune::phi3
