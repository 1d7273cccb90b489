// Random numbers that depend on (seed, module path, index) alone, so that an adapter's start does not depend on which
// other modules are adapted. The mixer is SplitMix64's.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>

#include "phi3tune/core/hash.h"

namespace phi3tune::model {

class RandomStream {
 public:
  RandomStream(uint64_t seed, const std::string& path) : key_(hash_bytes(path).low ^ mix(seed)) {}
  // In [0, 1).
  double uniform(uint64_t index) const {
    return static_cast<double>(mix(key_ + (index + 1) * 0x9E3779B97F4A7C15ULL) >> 11) * 0x1.0p-53;
  }
  double normal(uint64_t index) const {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform(2 * index)));
    return radius * std::cos(2.0 * std::numbers::pi * uniform(2 * index + 1));
  }

 private:
  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  uint64_t key_;
};

}  // namespace phi3tune::model
