// Random numbers that depend on (seed, tensor name, index) alone and are the same bytes on every machine.
//
//   mix(z)   = the finaliser of splitmix64 (Steele, Lea, Flood 2014)
//   key      = mix(mix(seed + G) xor fnv1a64(name)),  G = 0x9E3779B97F4A7C15
//   u(j)     = mix(key + (j + 1) G), four 16-bit numbers
//   s(i)     = the sum of the eight 16-bit numbers of u(2i) and u(2i + 1), 0 ... 524280
//   value(i) = float(s(i) - 262140) * kScale, then rounded to nearest, ties to even
//
// s is close to normal (excess kurtosis -0.15, at most 4.9 standard deviations) and needs neither libm nor a table,
// both of which differ between machines.
#pragma once

#include <cstdint>
#include <string_view>

#include "phi3tune/io/safetensors.h"

namespace phi3tune::phi3 {

class RandomWeights {
 public:
  RandomWeights(uint64_t seed, std::string_view name);
  float value(uint64_t index) const noexcept;
  // Elements [begin, begin + count) as `dtype` (F32, BF16, F16) into `out`.
  void fill(io::DType dtype, uint64_t begin, uint64_t count, void* out) const;

 private:
  uint64_t key_;
};

// Bits of the nearest value, ties to even. For finite input.
uint16_t to_bf16(float value) noexcept;
uint16_t to_f16(float value) noexcept;

}  // namespace phi3tune::phi3
