// adapter_config.json as PEFT writes and reads it (LoRA and DoRA).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "phi3tune/io/json.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::phi3 {

// The weights that may be trained whole beside the adapter.
enum class WholeModule { kEmbedding, kHead };
inline constexpr std::array kWholeModules{WholeModule::kEmbedding, WholeModule::kHead};
const char* whole_module_path(WholeModule module) noexcept;  // "model.embed_tokens", "lm_head"

struct AdapterConfig {
  int64_t rank = 8;    // "r"
  double alpha = 8.0;  // "lora_alpha"
  double dropout = 0.0;
  bool use_rslora = false;
  bool use_dora = false;  // beside A and B a magnitude [out]: y = magnitude / ||W + s B A||_row * (W + s B A) x
  std::vector<std::string>
      target_modules;        // module names or paths; a list entry matches a path that equals it or ends in "." + it
  std::string target_regex;  // instead of the list: a full match over the module path
  // PEFT's layers_to_transform: list entries that end a path match in these layers only, entries that are a whole path
  // anywhere. Empty: all layers.
  std::vector<int64_t> layers;
  std::vector<std::pair<std::string, int64_t>> rank_pattern;  // first key whose (.*\.)?(KEY)$ matches the path wins
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::string> modules_to_save;  // embed_tokens, lm_head: trained whole, and saved
  std::string base_model_name_or_path;

  // After pattern overrides.
  int64_t rank_of(const std::string& module_path) const;
  double alpha_of(const std::string& module_path) const;
  // alpha / r, or alpha / sqrt(r) with rsLoRA.
  double scale_of(const std::string& module_path) const;
  bool targets(const std::string& module_path) const;
  bool trains_whole(WholeModule module) const;
};

// Of all pairs, magnitudes and whole modules.
int64_t adapter_parameters(const ModelConfig& model, const AdapterConfig& config);

// Throws CheckpointError: not LoRA, bias, other modules_to_save, lora_bias or another method we cannot hold; wrong
// types.
AdapterConfig parse_adapter_config(const io::Json& json, const std::string& place);
AdapterConfig read_adapter_config(const std::string& folder);
// The portable set of keys that old and new readers accept, sorted, 2-space indent, newline-free end as json.dumps.
std::string adapter_config_text(const AdapterConfig& config);

// The adapter that holds two of the config's side by side in twice the rank, every module's scale unchanged:
// s B A - s B0 A0 = s [B, -B0] [A; A0].
AdapterConfig with_doubled_rank(AdapterConfig config);

// "base_model.model.model.layers.3.self_attn.qkv_proj.lora_A.weight"
std::string lora_tensor_name(const std::string& module_path, char a_or_b);
// "base_model.model.lm_head.weight"
std::string whole_tensor_name(WholeModule module);
// "base_model.model.model.layers.3.self_attn.qkv_proj.lora_magnitude_vector"
std::string magnitude_tensor_name(const std::string& module_path);

}  // namespace phi3tune::phi3
