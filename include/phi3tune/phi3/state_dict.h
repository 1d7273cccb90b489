// The tensors of a Phi3ForCausalLM checkpoint and how they are cut into shards.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "phi3tune/phi3/model_config.h"

namespace phi3tune::phi3 {

struct TensorSpec {
  std::string name;            // "model.layers.0.mlp.down_proj.weight"
  std::vector<int64_t> shape;  // row-major, [out, in] for a linear
  int64_t numel() const noexcept;
};

// Every tensor in the order the model defines them, which is the order of the published files: embedding; per layer
// o_proj, qkv_proj, gate_up_proj, down_proj, the two norms; the last norm; lm_head unless tied.
std::vector<TensorSpec> state_dict(const ModelConfig& config);

// Greedy, as huggingface_hub does it: a tensor joins the current shard unless it would pass `limit` bytes; a tensor
// larger than the limit has a shard of its own, and the shard that was open before it goes on after it. Returns for
// each shard the indices of its tensors.
std::vector<std::vector<size_t>> plan_shards(const std::vector<uint64_t>& tensor_bytes, uint64_t limit);

// "model.safetensors", or "model-00002-of-00006.safetensors" for index 1 of 6.
std::string shard_name(size_t index, size_t count);

inline constexpr uint64_t kShardLimit = 5'000'000'000;  // "5GB": decimal

}  // namespace phi3tune::phi3
