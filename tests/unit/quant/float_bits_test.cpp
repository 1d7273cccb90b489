// The 16-bit conversions, each of the 65536 patterns and the midpoints between neighbours.
#include "quant/float_bits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace phi3tune::quant {
namespace {

// Value of a half by its definition.
double half_value(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int fraction = half & 1023;
  const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  return exponent == 0 ? sign * std::ldexp(fraction, -24) : sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(FloatBits, EveryHalfIsReadByItsDefinition) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double wanted = half_value(static_cast<uint16_t>(bits));
    const float got = f16_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(wanted)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(got), wanted) << bits;
      ASSERT_EQ(std::signbit(got), std::signbit(wanted)) << bits;
    }
  }
}

TEST(FloatBits, HalfRoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    const auto low = static_cast<float>(half_value(static_cast<uint16_t>(bits)));
    const auto high = static_cast<float>(half_value(static_cast<uint16_t>(bits + 1)));
    const float middle = (low + high) / 2;  // exact
    ASSERT_EQ(float_to_f16(low), bits);
    ASSERT_EQ(float_to_f16(-low), bits | 0x8000U);
    ASSERT_EQ(float_to_f16(middle), bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(float_to_f16(std::nextafter(middle, 0.0F)), bits);
    ASSERT_EQ(float_to_f16(std::nextafter(middle, high)), bits + 1);
  }
  EXPECT_EQ(float_to_f16(65519.996F), 0x7BFF);
  EXPECT_EQ(float_to_f16(65520.0F), 0x7C00);
  EXPECT_EQ(float_to_f16(-1e38F), 0xFC00);
  EXPECT_EQ(float_to_f16(1e-30F), 0);
}

TEST(FloatBits, Bf16RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7F7F; ++bits) {
    const float low = bf16_to_float(static_cast<uint16_t>(bits));
    const float middle = std::bit_cast<float>((bits << 16) | 0x8000U);
    ASSERT_EQ(float_to_bf16(low), bits);
    ASSERT_EQ(float_to_bf16(-low), bits | 0x8000U);
    ASSERT_EQ(float_to_bf16(middle), bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>((bits << 16) | 0x8001U)), bits + 1);
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>((bits << 16) | 0x7FFFU)), bits);
  }
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::infinity()), 0x7F80);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
}

}  // namespace
}  // namespace phi3tune::quant
