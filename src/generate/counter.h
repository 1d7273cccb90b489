// Random numbers as functions of where they are used.
#pragma once

#include <cstdint>

namespace phi3tune::generate {

// SplitMix64's output function (Steele, Lea, Flood 2014) of a counter.
constexpr uint64_t mixed(uint64_t counter) noexcept {
  uint64_t z = counter * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

// The key of one stream of a seed; mixed(key + position) is its number at a position.
constexpr uint64_t stream_key(uint64_t seed, uint64_t stream) noexcept { return mixed(mixed(seed + 1) ^ (stream + 1)); }

// [0, 1), 53 bits.
constexpr double unit_interval(uint64_t bits) noexcept { return static_cast<double>(bits >> 11) * 0x1p-53; }

}  // namespace phi3tune::generate
