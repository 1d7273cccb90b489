// The second quantisation: absmax less their mean, 8 bits each against the signed dynamic map.
#pragma once

#include <span>

#include "phi3tune/quant/nf4.h"

namespace phi3tune::quant {

// Fills nested_codes, nested_absmax, nested_map and offset of `tensor` from the absmax of its blocks.
void quantize_absmax(std::span<const float> absmax, NestedRule rule, const float* offset, Nf4Tensor& tensor);

}  // namespace phi3tune::quant
