// One block of floats to its absmax and 4-bit codes.
#pragma once

#include <cstdint>

namespace phi3tune::quant {

// Bit pattern of the largest magnitude; at least 0x7F800000 when a value is not finite.
uint32_t largest_magnitude(const float* values, int64_t count);

// Codes of `count` values (even, padded by the caller to a multiple of 32) times `inverse`, packed two a byte, first in
// the high nibble. A NaN product, as an all-zero block has, is code 0.
void encode_nf4(const float* values, int64_t count, float inverse, uint8_t* packed);

}  // namespace phi3tune::quant
