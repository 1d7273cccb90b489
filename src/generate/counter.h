// Random numbers as functions of where they are used.
#pragma once

#include <cstdint>

#include "phi3tune/core/split_mix.h"

namespace phi3tune::generate {

constexpr uint64_t mixed(uint64_t counter) noexcept { return split_mix(counter * kGoldenStep); }

// The key of one stream of a seed; mixed(key + position) is its number at a position.
constexpr uint64_t stream_key(uint64_t seed, uint64_t stream) noexcept { return mixed(mixed(seed + 1) ^ (stream + 1)); }

}  // namespace phi3tune::generate
