// Which of cuBLASLt's algorithms serves a product: the library's first candidate, asked for once for each shape.
//
// Not the fastest by the clock: that would be another one in another process, and with it other bits; nor one that
// shapes share, which would depend on the shape that came first.
#pragma once

#include "cuda/device/product.h"

namespace phi3tune::cuda {

const cublasLtMatmulAlgo_t& algorithm_for(const Product& product);

}  // namespace phi3tune::cuda
