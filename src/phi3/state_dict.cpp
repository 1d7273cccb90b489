#include "phi3tune/phi3/state_dict.h"

#include <fmt/format.h>

#include <utility>

namespace phi3tune::phi3 {

int64_t TensorSpec::numel() const noexcept {
  int64_t count = 1;
  for (const int64_t size : shape) {
    count *= size;
  }
  return count;
}

std::vector<TensorSpec> state_dict(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  std::vector<TensorSpec> tensors;
  tensors.push_back({"model.embed_tokens.weight", {config.vocab_size, hidden}});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const auto kind : {LinearKind::kO, LinearKind::kQkv, LinearKind::kGateUp, LinearKind::kDown}) {
      tensors.push_back({linear_path(layer, kind) + ".weight", {linear_out(config, kind), linear_in(config, kind)}});
    }
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
      tensors.push_back({fmt::format("model.layers.{}.{}.weight", layer, norm), {hidden}});
    }
  }
  tensors.push_back({"model.norm.weight", {hidden}});
  if (!config.tie_word_embeddings) {
    tensors.push_back({"lm_head.weight", {config.vocab_size, hidden}});
  }
  return tensors;
}

std::vector<std::vector<size_t>> plan_shards(const std::vector<uint64_t>& tensor_bytes, uint64_t limit) {
  std::vector<std::vector<size_t>> shards;
  std::vector<size_t> current;
  uint64_t filled = 0;
  for (size_t i = 0; i < tensor_bytes.size(); ++i) {
    if (tensor_bytes[i] > limit) {
      shards.push_back({i});
      continue;
    }
    if (filled + tensor_bytes[i] > limit) {
      shards.push_back(std::move(current));
      current.clear();
      filled = 0;
    }
    current.push_back(i);
    filled += tensor_bytes[i];
  }
  if (!current.empty()) {
    shards.push_back(std::move(current));
  }
  return shards;
}

std::string shard_name(size_t index, size_t count) {
  return count == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

}  // namespace phi3tune::phi3
