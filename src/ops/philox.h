// Philox4x32-10 (Salmon et al. 2011) and the chain of keys that dropout masks and noise come from.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace phi3tune::ops {

using Philox4 = std::array<uint32_t, 4>;

constexpr Philox4 philox4x32_10(Philox4 counter, std::array<uint32_t, 2> key) noexcept {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53U} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57U} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

constexpr uint32_t low_word(uint64_t value) noexcept { return static_cast<uint32_t>(value); }
constexpr uint32_t high_word(uint64_t value) noexcept { return static_cast<uint32_t>(value >> 32); }

// The stream of one document: (step, layer, module) encrypted under the seed, then the sample id under the result.
// Element (position, column) takes word column % 4 of Philox with the counter (column / 4, position, [2], [3]) and the
// key ([0], [1]). Key: a DropoutKey, or whatever has its seed, step, layer and module.
template <typename Key>
constexpr Philox4 dropout_stream(const Key& key, uint64_t sample_id) noexcept {
  const Philox4 step = philox4x32_10({low_word(key.step), high_word(key.step), key.layer, key.module},
                                     {low_word(key.seed), high_word(key.seed)});
  return philox4x32_10({low_word(sample_id), high_word(sample_id), step[2], step[3]}, {step[0], step[1]});
}

constexpr uint32_t dropout_bits(const Philox4& stream, uint32_t position, int64_t column) noexcept {
  const Philox4 words =
      philox4x32_10({static_cast<uint32_t>(column / 4), position, stream[2], stream[3]}, {stream[0], stream[1]});
  return words[static_cast<size_t>(column % 4)];
}

// An element is dropped when its bits are below this.
constexpr uint32_t dropout_threshold(double p) noexcept {
  const double scaled = p * 4294967296.0;
  return scaled >= 4294967295.0 ? 4294967295U : static_cast<uint32_t>(scaled);
}

// Half the width of NEFTune's noise on a document of `tokens` rows: alpha / sqrt(tokens * columns).
inline double noise_magnitude(double alpha, int64_t tokens, int64_t columns) noexcept {
  return alpha / std::sqrt(static_cast<double>(tokens) * static_cast<double>(columns));
}

}  // namespace phi3tune::ops
