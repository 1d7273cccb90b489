// SplitMix64 (Steele, Lea, Flood 2014): random bits as a function of where they are used, the same on every machine.
#pragma once

#include <cstdint>

namespace phi3tune {

// What its states are apart.
inline constexpr uint64_t kGoldenStep = 0x9E3779B97F4A7C15U;

// Its output of a state.
constexpr uint64_t split_mix(uint64_t state) noexcept {
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9U;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EBU;
  return state ^ (state >> 31);
}

// [0, 1), 53 bits.
constexpr double unit_interval(uint64_t bits) noexcept { return static_cast<double>(bits >> 11) * 0x1p-53; }

}  // namespace phi3tune
