#include "key_value_cache.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::model {
namespace {

constexpr int64_t kFirstCapacity = 64;  // positions

}  // namespace

KeyValueCache::KeyValueCache(const phi3::ModelConfig& config, at::ScalarType dtype)
    : heads_(config.num_kv_heads),
      head_dim_(config.head_dim),
      dtype_(dtype),
      layers_(static_cast<size_t>(config.num_layers)) {}

void KeyValueCache::reserve(int64_t positions, int64_t held) {
  for (auto& layer : layers_) {
    if (layer.capacity < positions) {
      grow(layer, std::max({positions, 2 * layer.capacity, kFirstCapacity}), held);
    }
  }
}

void KeyValueCache::grow(Layer& layer, int64_t capacity, int64_t held) const {
  Layer grown;
  grown.capacity = capacity;
  try {
    grown.block = at::empty({2, heads_, capacity, head_dim_}, at::dtype(dtype_));
  } catch (const c10::Error&) {
    const auto bytes = static_cast<uint64_t>(2 * heads_ * capacity * head_dim_) * c10::elementSize(dtype_);
    throw ResourceError(
        "memory: the cache of a sequence of {} tokens could not be allocated ({} a layer, {} layers); use fewer "
        "sequences at a time, shorter prompts or fewer new tokens",
        capacity, format_bytes(bytes), layers_.size());
  }
  grown.keys = grown.block[0];
  grown.values = grown.block[1];
  if (held > 0) {
    grown.keys.narrow(1, 0, held).copy_(layer.keys.narrow(1, 0, held));
    grown.values.narrow(1, 0, held).copy_(layer.values.narrow(1, 0, held));
  }
  layer = std::move(grown);
}

uint64_t KeyValueCache::bytes() const noexcept {
  uint64_t total = 0;
  for (const auto& layer : layers_) {
    total += static_cast<uint64_t>(2 * heads_ * layer.capacity * head_dim_) * c10::elementSize(dtype_);
  }
  return total;
}

}  // namespace phi3tune::model
