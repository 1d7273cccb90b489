// Written with the compiler's vectors of four: SSE2 wherever x86-64 is, and no table look-up is faster than counting
// the thresholds below a value.
#include "quant/nf4_encode.h"

#include <cstring>

namespace phi3tune::quant {
namespace {

using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));

// Midpoints of neighbouring codes, rounded to fp32; a value is above none of them to have code 0.
constexpr float kThresholds[15] = {
    -0.8480963706970215F,  -0.6106328964233398F,   -0.4599952697753906F, -0.33967941999435425F, -0.23460739850997925F,
    -0.13791173696517944F, -0.045525018125772476F, 0.03979014977812767F, 0.120255246758461F,    0.2035212516784668F,
    0.2920137643814087F,   0.3893125355243683F,    0.5016634464263916F,  0.6427869200706482F,   0.8614784479141235F};

template <typename Vector, typename Element>
inline Vector load(const Element* from) {
  Vector value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// Minus the code of each product.
inline Ints negative_codes(const float* values, Floats inverse) {
  const Floats x = load<Floats>(values) * inverse;
  Ints count = {0, 0, 0, 0};
  for (const float threshold : kThresholds) {
    const Floats t = {threshold, threshold, threshold, threshold};
    count += x > t;  // a true comparison is -1, one with a NaN is false
  }
  return count;
}

}  // namespace

uint32_t largest_magnitude(const float* values, int64_t count) {
  // Magnitudes as integers are ordered as the floats are, infinity and NaN above all.
  Ints largest[4] = {};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int64_t lane = 0; lane < 4; ++lane) {
      const Ints magnitude = load<Ints>(values + i + 4 * lane) & 0x7FFFFFFF;
      largest[lane] = magnitude > largest[lane] ? magnitude : largest[lane];
    }
  }
  uint32_t result = 0;
  for (const Ints& lane : largest) {
    for (int k = 0; k < 4; ++k) {
      const auto magnitude = static_cast<uint32_t>(lane[k]);
      result = magnitude > result ? magnitude : result;
    }
  }
  for (; i < count; ++i) {
    const uint32_t magnitude = load<uint32_t>(values + i) & 0x7FFFFFFFU;
    result = magnitude > result ? magnitude : result;
  }
  return result;
}

void encode_nf4(const float* values, int64_t count, float inverse, uint8_t* packed) {
  const Floats scale = {inverse, inverse, inverse, inverse};
  for (int64_t i = 0; i < count; i += 8) {
    int32_t codes[8];
    const Ints first = -negative_codes(values + i, scale);
    const Ints second = -negative_codes(values + i + 4, scale);
    std::memcpy(codes, &first, sizeof(first));
    std::memcpy(codes + 4, &second, sizeof(second));
    for (int k = 0; k < 4; ++k) {
      packed[i / 2 + k] = static_cast<uint8_t>((codes[2 * k] << 4) | codes[2 * k + 1]);
    }
  }
}

}  // namespace phi3tune::quant
