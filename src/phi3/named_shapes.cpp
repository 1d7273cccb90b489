#include <fmt/format.h>

#include <cmath>

#include "phi3tune/core/error.h"
#include "phi3tune/phi3/init_model.h"

namespace phi3tune::phi3 {
namespace {

ModelConfig base_config() {
  ModelConfig config;
  config.vocab_size = 32064;
  config.max_position_embeddings = 4096;
  config.original_max_position_embeddings = 4096;
  config.bos_token_id = 1;
  config.eos_token_ids = {32000};
  config.pad_token_id = 32000;
  return config;
}

void set_sizes(ModelConfig& config, int64_t hidden, int64_t intermediate, int64_t layers, int64_t heads,
               int64_t kv_heads) {
  config.hidden_size = hidden;
  config.intermediate_size = intermediate;
  config.num_layers = layers;
  config.num_heads = heads;
  config.num_kv_heads = kv_heads;
  config.head_dim = hidden / heads;
  config.rotary_dim = config.head_dim;
}

ModelConfig tiny(int64_t kv_heads) {
  auto config = base_config();
  set_sizes(config, 64, 128, 2, 4, kv_heads);
  return config;
}

// LongRoPE that changes its table at position 64 already, so that short runs see both.
void use_longrope(ModelConfig& config) {
  config.original_max_position_embeddings = 64;
  config.max_position_embeddings = 32 * 64;
  config.rope.type = RopeType::kLongRope;
  config.rope.attention_factor = std::sqrt(1.0 + std::log(32.0) / std::log(64.0));
  for (int64_t i = 0; i < config.rotary_dim / 2; ++i) {
    config.rope.short_factor.push_back(static_cast<double>(100 + 5 * i) / 100);
    config.rope.long_factor.push_back(static_cast<double>(11 + 17 * i) / 10);
  }
}

}  // namespace

const std::vector<std::string_view>& shape_names() {
  static const std::vector<std::string_view> kNames{
      "tiny", "tiny-gqa", "tiny-longrope", "tiny-tied-partial", "phi-3-mini-4k", "phi-3-medium-4k"};
  return kNames;
}

ModelConfig named_shape(std::string_view name) {
  if (name == "tiny") {  // as Phi-3-mini-4k: one kv head a head, a window
    auto config = tiny(4);
    config.sliding_window = 2047;
    return config;
  }
  if (name == "tiny-gqa") {  // as Phi-3-medium, without its window
    return tiny(2);
  }
  if (name == "tiny-longrope") {  // as Phi-3.5-mini, with a window that bites
    auto config = tiny(2);
    config.sliding_window = 48;
    use_longrope(config);
    return config;
  }
  if (name == "tiny-tied-partial") {  // as Phi-4-mini
    auto config = tiny(2);
    config.sliding_window = 262144;
    config.tie_word_embeddings = true;
    config.rotary_dim = config.head_dim * 3 / 4;
    use_longrope(config);
    config.rope.short_factor.assign(config.rope.short_factor.size(), 1.0);
    return config;
  }
  if (name == "phi-3-mini-4k" || name == "phi-3-medium-4k") {
    auto config = base_config();
    config.sliding_window = 2047;
    if (name == "phi-3-mini-4k") {
      set_sizes(config, 3072, 8192, 32, 32, 32);
    } else {
      set_sizes(config, 5120, 17920, 40, 40, 10);
    }
    return config;
  }
  throw ConfigError("shape: found \"{}\", wanted one of {}", name, fmt::join(shape_names(), ", "));
}

}  // namespace phi3tune::phi3
