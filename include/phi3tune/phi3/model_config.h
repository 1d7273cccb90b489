// What config.json of a Phi-3-family folder says, in both spellings (transformers 4 and 5), checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "phi3tune/io/json.h"

namespace phi3tune::phi3 {

enum class RopeType { kDefault, kLongRope };

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  std::vector<double> short_factor;  // rotary_dim / 2 values, LongRoPE only
  std::vector<double> long_factor;
  double attention_factor = 1.0;  // resolved: explicit, or sqrt(1 + ln(scale)/ln(original)); applies to both tables
};

// A base that was saved pre-quantised by bitsandbytes.
struct QuantizationConfig {
  std::string quant_type;  // "nf4"
  bool double_quant = false;
  std::string compute_dtype;  // "bfloat16"
};

struct ModelConfig {
  int64_t hidden_size = 0;        // H
  int64_t intermediate_size = 0;  // F
  int64_t num_layers = 0;         // L
  int64_t num_heads = 0;          // nh
  int64_t num_kv_heads = 0;       // nkv
  int64_t head_dim = 0;           // hd: `head_dim` if given, else H / nh
  int64_t rotary_dim = 0;         // rd = int(hd * partial_rotary_factor)
  int64_t vocab_size = 0;         // V
  int64_t max_position_embeddings = 0;
  int64_t original_max_position_embeddings = 0;
  std::optional<int64_t> sliding_window;  // a query sees this many positions, itself included
  double rms_norm_eps = 1e-5;
  bool tie_word_embeddings = false;
  RopeConfig rope;
  std::optional<QuantizationConfig> quantization;
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;
  std::optional<int64_t> pad_token_id;
  std::string torch_dtype;  // "bfloat16" | "float16" | "float32", as the file says; may be empty

  int64_t q_size() const noexcept { return num_heads * head_dim; }
  int64_t kv_size() const noexcept { return num_kv_heads * head_dim; }
  int64_t qkv_size() const noexcept { return q_size() + 2 * kv_size(); }
};

// `place` names the file in messages. Throws ModelError with every fault, one a line: missing or mistyped keys, sizes
// that do not divide, an architecture that is not Phi3ForCausalLM (named, with what it is), unknown rope types, factor
// arrays of the wrong length, non-silu activations, attention_bias, dropouts in the base.
ModelConfig parse_model_config(const io::Json& json, const std::string& place);
ModelConfig read_model_config(const std::string& folder);

// A JSON document in the published (transformers 4) spelling.
io::Json model_config_json(const ModelConfig& config);

// The four adapted weights of a layer, by the last component of their module path.
enum class LinearKind { kQkv, kO, kGateUp, kDown };
inline constexpr int kLinearKinds = 4;
const char* linear_name(LinearKind kind) noexcept;    // "qkv_proj"
const char* linear_parent(LinearKind kind) noexcept;  // "self_attn" | "mlp"
// "model.layers.3.self_attn.qkv_proj"
std::string linear_path(int64_t layer, LinearKind kind);
int64_t linear_in(const ModelConfig& config, LinearKind kind) noexcept;
int64_t linear_out(const ModelConfig& config, LinearKind kind) noexcept;

}  // namespace phi3tune::phi3
