// Which of cuBLASLt's algorithms serves a product: timed once for each kind of product, then kept. The same algorithm
// gives the same bits, so what was chosen can be written down and given to a later process of the same run.
#pragma once

#include <string>
#include <string_view>

#include "cuda/device/product.h"

namespace phi3tune::cuda {

// The first call for a kind of product runs the library's candidates on the operands and waits for them.
const cublasLtMatmulAlgo_t& algorithm_for(const Product& product, cudaStream_t stream);
// The library's first candidate for just this product; for one that the chosen algorithm does not serve.
cublasLtMatmulAlgo_t first_candidate(const Product& product);

// One line each: what it is chosen by, then the algorithm. Restored lines are not timed again; of another version of
// the library they are dropped.
std::string algorithms_text();
void restore_algorithms(std::string_view text);

}  // namespace phi3tune::cuda
