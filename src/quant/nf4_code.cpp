// The two fixed tables of NF4: 16 values of a weight, 256 values of an absmax.
#include <algorithm>
#include <bit>
#include <cmath>

#include "phi3tune/quant/nf4.h"

namespace phi3tune::quant {
namespace {

constexpr float bits(uint32_t pattern) { return std::bit_cast<float>(pattern); }

// torch.linspace(0.1, 1, count) in fp32: the first half counts up from the start, the second half down from the end,
// with a fused multiply-add as its vector and CUDA code have.
float linspace_point(int64_t index, int64_t count) {
  constexpr float kStart = 0.1F;
  constexpr float kEnd = 1.0F;
  const float step = (kEnd - kStart) / static_cast<float>(count - 1);
  if (index < count / 2) {
    return std::fma(step, static_cast<float>(index), kStart);
  }
  return std::fma(-step, static_cast<float>(count - index - 1), kEnd);
}

// bitsandbytes.functional.create_dynamic_map(signed=True, max_exponent_bits=7, total_bits=8).
std::array<float, 256> make_signed_dynamic_map() {
  constexpr std::array<float, 7> kPowers = {1e-6F, 1e-5F, 1e-4F, 1e-3F, 1e-2F, 1e-1F, 1.0F};
  std::array<float, 256> map{};
  size_t used = 0;
  for (size_t exponent = 0; exponent < kPowers.size(); ++exponent) {
    const int64_t points = (int64_t{1} << exponent) + 1;
    for (int64_t i = 0; i + 1 < points; ++i) {
      const float middle = (linspace_point(i, points) + linspace_point(i + 1, points)) / 2.0F;
      map[used++] = kPowers[exponent] * middle;
      map[used++] = -kPowers[exponent] * middle;
    }
  }
  map[used++] = 0.0F;
  map[used++] = 1.0F;
  std::sort(map.begin(), map.end());
  return map;
}

}  // namespace

// Quantiles of the normal distribution, as bitsandbytes fixes them (QLoRA, appendix E).
const std::array<float, 16> kNf4Code = {bits(0xbf800000), bits(0xbf3239b1), bits(0xbf066b30), bits(0xbeca32a0),
                                        bits(0xbe91a24d), bits(0xbe3d353f), bits(0xbdba7871), bits(0x00000000),
                                        bits(0x3da2faff), bits(0x3e24cae3), bits(0x3e7c04dd), bits(0x3ead033a),
                                        bits(0x3ee1a4b8), bits(0x3f1007ab), bits(0x3f3913b3), bits(0x3f800000)};

const std::array<float, 256>& signed_dynamic_map() {
  static const std::array<float, 256> kMap = make_signed_dynamic_map();
  return kMap;
}

}  // namespace phi3tune::quant
