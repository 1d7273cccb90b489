// The four linears of a layer that adapters and quantisation work on.
#include <fmt/format.h>

#include "phi3tune/phi3/model_config.h"

namespace phi3tune::phi3 {

const char* linear_name(LinearKind kind) noexcept {
  switch (kind) {
    case LinearKind::kQkv:
      return "qkv_proj";
    case LinearKind::kO:
      return "o_proj";
    case LinearKind::kGateUp:
      return "gate_up_proj";
    case LinearKind::kDown:
      return "down_proj";
  }
  return "";
}

const char* linear_parent(LinearKind kind) noexcept {
  return kind == LinearKind::kQkv || kind == LinearKind::kO ? "self_attn" : "mlp";
}

std::string linear_path(int64_t layer, LinearKind kind) {
  return fmt::format("model.layers.{}.{}.{}", layer, linear_parent(kind), linear_name(kind));
}

int64_t linear_in(const ModelConfig& config, LinearKind kind) noexcept {
  switch (kind) {
    case LinearKind::kO:
      return config.q_size();
    case LinearKind::kDown:
      return config.intermediate_size;
    case LinearKind::kQkv:
    case LinearKind::kGateUp:
      break;
  }
  return config.hidden_size;
}

int64_t linear_out(const ModelConfig& config, LinearKind kind) noexcept {
  switch (kind) {
    case LinearKind::kQkv:
      return config.qkv_size();
    case LinearKind::kGateUp:
      return 2 * config.intermediate_size;
    case LinearKind::kO:
    case LinearKind::kDown:
      break;
  }
  return config.hidden_size;
}

}  // namespace phi3tune::phi3
