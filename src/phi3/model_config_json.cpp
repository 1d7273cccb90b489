#include <cmath>

#include "phi3tune/phi3/model_config.h"

namespace phi3tune::phi3 {
namespace {

using io::Json;

// The factor that reads back as exactly this rotary width: int(head_dim * factor).
double partial_rotary_factor(const ModelConfig& config) {
  const double width = static_cast<double>(config.head_dim);
  double factor = static_cast<double>(config.rotary_dim) / width;
  while (static_cast<int64_t>(width * factor) < config.rotary_dim) {
    factor = std::nextafter(factor, 2.0);
  }
  return factor;
}

double attention_factor_of_limits(const ModelConfig& config) {
  const double original = static_cast<double>(config.original_max_position_embeddings);
  const double scale = static_cast<double>(config.max_position_embeddings) / original;
  return scale <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(scale) / std::log(original));
}

// transformers 4 accepts exactly three keys here.
Json rope_scaling_json(const ModelConfig& config) {
  if (config.rope.type == RopeType::kDefault) {
    return nullptr;
  }
  Json rope = Json::object();
  if (config.rope.attention_factor != attention_factor_of_limits(config)) {
    rope["attention_factor"] = config.rope.attention_factor;
  }
  rope["long_factor"] = config.rope.long_factor;
  rope["short_factor"] = config.rope.short_factor;
  rope["type"] = "longrope";
  return rope;
}

Json optional_json(const std::optional<int64_t>& value) { return value ? Json(*value) : Json(nullptr); }

}  // namespace

Json model_config_json(const ModelConfig& config) {
  Json json = Json::object();
  json["architectures"] = {"Phi3ForCausalLM"};
  json["attention_bias"] = false;
  json["attention_dropout"] = 0.0;
  json["bos_token_id"] = optional_json(config.bos_token_id);
  json["embd_pdrop"] = 0.0;
  const auto& eos = config.eos_token_ids;
  json["eos_token_id"] = eos.empty() ? Json(nullptr) : eos.size() == 1 ? Json(eos[0]) : Json(eos);
  if (config.head_dim * config.num_heads != config.hidden_size) {
    json["head_dim"] = config.head_dim;
  }
  json["hidden_act"] = "silu";
  json["hidden_size"] = config.hidden_size;
  json["initializer_range"] = 0.02;
  json["intermediate_size"] = config.intermediate_size;
  json["max_position_embeddings"] = config.max_position_embeddings;
  json["model_type"] = "phi3";
  json["num_attention_heads"] = config.num_heads;
  json["num_hidden_layers"] = config.num_layers;
  json["num_key_value_heads"] = config.num_kv_heads;
  json["original_max_position_embeddings"] = config.original_max_position_embeddings;
  json["pad_token_id"] = optional_json(config.pad_token_id);
  if (config.rotary_dim != config.head_dim) {
    json["partial_rotary_factor"] = partial_rotary_factor(config);
  }
  json["resid_pdrop"] = 0.0;
  json["rms_norm_eps"] = config.rms_norm_eps;
  json["rope_scaling"] = rope_scaling_json(config);
  json["rope_theta"] = config.rope.theta;
  json["sliding_window"] = optional_json(config.sliding_window);
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  if (!config.torch_dtype.empty()) {
    json["torch_dtype"] = config.torch_dtype;
  }
  json["use_cache"] = true;
  json["vocab_size"] = config.vocab_size;
  return json;
}

}  // namespace phi3tune::phi3
