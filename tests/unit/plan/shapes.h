// Published shapes, and runs over them, for the tests of this folder.
#pragma once

#include "phi3tune/phi3/model_config.h"
#include "phi3tune/plan/run_plan.h"

namespace phi3tune::plan {

inline phi3::ModelConfig mini() {  // microsoft/Phi-3-mini-4k-instruct
  phi3::ModelConfig config;
  config.hidden_size = 3072;
  config.intermediate_size = 8192;
  config.num_layers = 32;
  config.num_heads = config.num_kv_heads = 32;
  config.head_dim = config.rotary_dim = 96;
  config.vocab_size = 32064;
  return config;
}

inline phi3::ModelConfig medium() {  // microsoft/Phi-3-medium-4k-instruct
  phi3::ModelConfig config;
  config.hidden_size = 5120;
  config.intermediate_size = 17920;
  config.num_layers = 40;
  config.num_heads = 40;
  config.num_kv_heads = 10;
  config.head_dim = config.rotary_dim = 128;
  config.vocab_size = 32064;
  return config;
}

// Rank 16 beside all linears, bf16, every token trained.
inline RunShape run_of(const phi3::ModelConfig& config, int64_t tokens, bool quantize,
                       SavedActivations saved = SavedActivations::kNone) {
  RunShape shape;
  shape.weights.quantize = quantize;
  shape.step.tokens = shape.step.trained_rows = tokens;
  shape.step.documents = 1;
  shape.step.head_chunk = 1024;
  shape.step.element_size = 2;
  shape.step.extended = true;
  const auto layers = static_cast<size_t>(config.num_layers);
  shape.step.ranks.assign(layers, {16, 16, 16, 16});
  shape.step.saved.assign(layers, saved);
  for (int kind = 0; kind < phi3::kLinearKinds; ++kind) {
    const auto linear = static_cast<phi3::LinearKind>(kind);
    shape.parameters += config.num_layers * 16 * (phi3::linear_in(config, linear) + phi3::linear_out(config, linear));
  }
  return shape;
}

}  // namespace phi3tune::plan
