// Keys and values of one sequence, layer by layer; room grows by doubling.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "phi3tune/phi3/model_config.h"

namespace phi3tune::model {

class KeyValueCache {
 public:
  KeyValueCache(const phi3::ModelConfig& config, at::ScalarType dtype);

  // Room for `positions`; the first `held` are kept. Throws ResourceError; what is held stays.
  void reserve(int64_t positions, int64_t held);
  // [G, capacity, H], contiguous.
  const at::Tensor& keys(int64_t layer) const { return layers_[static_cast<size_t>(layer)].keys; }
  const at::Tensor& values(int64_t layer) const { return layers_[static_cast<size_t>(layer)].values; }
  uint64_t bytes() const noexcept;

 private:
  struct Layer {
    at::Tensor block, keys, values;  // views of the block
    int64_t capacity = 0;
  };
  void grow(Layer& layer, int64_t capacity, int64_t held) const;

  int64_t heads_, head_dim_;
  at::ScalarType dtype_;
  std::vector<Layer> layers_;
};

}  // namespace phi3tune::model
