// A quantised weight on its way from the host into memory of a back end.
#pragma once

#include <ATen/core/Tensor.h>

#include "phi3tune/quant/nf4.h"
#include "phi3tune/quant/nf4_layout.h"

namespace phi3tune::model {

// Copies all parts into `block`, as quant::nf4_layout places them.
void upload_quantized(const at::Tensor& block, const quant::Nf4Tensor& weight);
// Gives the vectors' memory back; shape and options stay.
void forget_bytes(quant::Nf4Tensor& weight);

}  // namespace phi3tune::model
