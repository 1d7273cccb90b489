// Random numbers that depend on (seed, module path, index) alone, so that an adapter's start does not depend on which
// other modules are adapted.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>

#include "phi3tune/core/hash.h"
#include "phi3tune/core/split_mix.h"

namespace phi3tune::model {

class RandomStream {
 public:
  RandomStream(uint64_t seed, const std::string& path) : key_(hash_bytes(path).low ^ split_mix(seed)) {}
  // In [0, 1).
  double uniform(uint64_t index) const { return unit_interval(split_mix(key_ + (index + 1) * kGoldenStep)); }
  double normal(uint64_t index) const {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform(2 * index)));
    return radius * std::cos(2.0 * std::numbers::pi * uniform(2 * index + 1));
  }

 private:
  uint64_t key_;
};

}  // namespace phi3tune::model
