// exp of a vector. float: about one unit in the last place, 0 below -104, infinity above 88.73, NaN stays NaN. double:
// the C library's, lane by lane.
#pragma once

#include "ops/cpu/vector.h"

namespace phi3tune::ops::cpu {
namespace {

inline F32 vector_exp(F32 x) {
  const F32 clamped_low = x < -104.0F ? splat(-104.0F) : x;
  const F32 clamped = clamped_low > 89.0F ? splat(89.0F) : clamped_low;
  // x = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to an integer that sits in the low bits.
  const F32 shift = splat(12582912.0F);
  const F32 shifted = clamped * 1.44269504088896341F + shift;
  const F32 n = shifted - shift;
  F32 r = clamped - n * 0.693359375F;  // ln 2 in two parts; the first has few bits, so the product is exact
  r = r - n * -2.12194440054690583e-4F;
  F32 p = splat(1.9875691500e-4F);  // Cephes expf
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r;
  p = p + 1.0F;
  // 2^n in two halves, so that results below the smallest normal number and above 2^127 come out right.
  const I32 whole = __builtin_convertvector(n, I32);
  const I32 first = whole >> 1;
  const I32 second = whole - first;
  const I32 first_bits = (first + 127) << 23;
  const I32 second_bits = (second + 127) << 23;
  F32 first_power, second_power;
  __builtin_memcpy(&first_power, &first_bits, sizeof first_power);
  __builtin_memcpy(&second_power, &second_bits, sizeof second_power);
  return x == x ? p * first_power * second_power : x;
}

inline F64 vector_exp(F64 x) {
  for (int64_t i = 0; i < kLanes<double>; ++i) {
    x[i] = __builtin_exp(x[i]);
  }
  return x;
}

}  // namespace
}  // namespace phi3tune::ops::cpu
