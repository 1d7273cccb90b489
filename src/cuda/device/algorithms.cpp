#include "cuda/device/algorithms.h"

#include <map>

namespace phi3tune::cuda {

const cublasLtMatmulAlgo_t& algorithm_for(const Product& product) {
  static std::map<ProductKey, cublasLtMatmulAlgo_t> known;
  const auto found = known.find(product.key());
  return found != known.end() ? found->second : known.emplace(product.key(), product.first_candidate()).first->second;
}

}  // namespace phi3tune::cuda
