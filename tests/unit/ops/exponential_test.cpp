// The vector exp of this file's own instruction set, against the C library in float64.
#include "ops/cpu/exponential.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace phi3tune::ops::cpu {
namespace {

float exp_of(float x) { return vector_exp(splat(x))[0]; }

TEST(Exponential, WithinOneAndAHalfUnitsInTheLastPlace) {
  double worst = 0.0;
  for (double at = -87.0; at < 88.7; at += 0.00073) {
    const auto x = static_cast<float>(at);
    const double exact = std::exp(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(exp_of(x) - exact) / ulp);
  }
  EXPECT_LE(worst, 1.5);
}

TEST(Exponential, EndsAndSpecialValues) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_of(0.0F), 1.0F);
  EXPECT_EQ(exp_of(-infinity), 0.0F);
  EXPECT_EQ(exp_of(-104.5F), 0.0F);
  EXPECT_EQ(exp_of(infinity), infinity);
  EXPECT_EQ(exp_of(88.8F), infinity);
  EXPECT_TRUE(std::isfinite(exp_of(88.72F)));
  EXPECT_TRUE(std::isnan(exp_of(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_NEAR(exp_of(-100.0F) / std::exp(-100.0), 1.0, 0.02);  // below the smallest normal number: few bits are left
}

TEST(Bfloat16, RoundsAsTheLibraryDoes) {
  for (const float x : {1.0F, 1.00390625F, 1.01171875F, -3.3F, 1e-40F, 3.39e38F, 3.4e38F,
                        std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    const float rounded = round_to(splat(x), static_cast<const Bf16*>(nullptr))[0];
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    const auto nearest = static_cast<uint32_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U);
    float wanted;
    __builtin_memcpy(&wanted, &nearest, sizeof wanted);
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(rounded));
    } else {
      EXPECT_EQ(rounded, wanted) << x;
    }
  }
}

}  // namespace
}  // namespace phi3tune::ops::cpu
