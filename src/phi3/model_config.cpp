#include "phi3tune/phi3/model_config.h"

#include <algorithm>
#include <cmath>

#include "phi3/faults.h"
#include "phi3tune/core/error.h"

namespace phi3tune::phi3 {
namespace {

using io::Json;

// Far above every published model, far below what makes a product of two sizes overflow.
constexpr int64_t kLargestSize = int64_t{1} << 24;
constexpr int64_t kMostLayers = 4096;
constexpr int64_t kMostPositions = int64_t{1} << 31;
// The reader's defaults where the file leaves a key out (Phi3Config of transformers).
constexpr int64_t kDefaultPositions = 4096;

struct Relative {
  const char* name;
  const char* what;
};
constexpr Relative kRelatives[] = {
    {"phi3small", "Phi-3-small has block-sparse attention and another tokenizer"},
    {"Phi3SmallForCausalLM", "Phi-3-small has block-sparse attention and another tokenizer"},
    {"phimoe", "Phi-3.5-MoE is a mixture of experts"},
    {"PhiMoEForCausalLM", "Phi-3.5-MoE is a mixture of experts"},
    {"PhimoeForCausalLM", "Phi-3.5-MoE is a mixture of experts"},
    {"phi3_v", "Phi-3-vision reads images"},
    {"Phi3VForCausalLM", "Phi-3-vision reads images"},
    {"phi4mm", "Phi-4-multimodal reads images and sound"},
    {"phi4_multimodal", "Phi-4-multimodal reads images and sound"},
    {"Phi4MMForCausalLM", "Phi-4-multimodal reads images and sound"},
    {"phi", "Phi-1, 1.5 and 2 have another architecture"},
    {"PhiForCausalLM", "Phi-1, 1.5 and 2 have another architecture"},
    {"phi4flash", "Phi-4-mini-flash has another architecture"},
    {"Phi4FlashForCausalLM", "Phi-4-mini-flash has another architecture"},
};

// Empty when the name is ours; else what is wrong with it.
std::string foreign(const std::string& name, const char* ours) {
  if (name == ours) {
    return "";
  }
  for (const auto& relative : kRelatives) {
    if (name == relative.name) {
      return relative.what;
    }
  }
  return "another architecture";
}

// With another architecture the remaining keys mean other things: this alone is reported.
void check_architecture(const Json& json, const std::string& place) {
  const auto refuse = [&](const char* key, const std::string& found, const char* wanted, const std::string& why) {
    throw ModelError(
        "{}: {}: found \"{}\" ({}), wanted \"{}\": Phi-3-mini, Phi-3-medium, Phi-3.5-mini, Phi-4 or "
        "Phi-4-mini",
        place, key, found, why, wanted);
  };
  bool named = false;
  if (const auto found = json.find("model_type"); found != json.end() && found->is_string()) {
    named = true;
    if (const auto why = foreign(found->get<std::string>(), "phi3"); !why.empty()) {
      refuse("model_type", found->get<std::string>(), "phi3", why);
    }
  }
  if (const auto found = json.find("architectures"); found != json.end() && found->is_array()) {
    for (const auto& name : *found) {
      if (name.is_string()) {
        named = true;
        if (const auto why = foreign(name.get<std::string>(), "Phi3ForCausalLM"); !why.empty()) {
          refuse("architectures", name.get<std::string>(), "Phi3ForCausalLM", why);
        }
      }
    }
  }
  if (!named) {
    throw ModelError(
        "{}: neither model_type \"phi3\" nor architectures [\"Phi3ForCausalLM\"]: not the config.json of a "
        "Phi-3 model",
        place);
  }
}

void read_sizes(Fields& fields, ModelConfig& config, Faults& faults, const std::string& place) {
  const auto size = [&](const char* key, int64_t high) {
    if (fields.find(key) == nullptr) {
      faults.add(place, "{} is missing, wanted a whole number from 1", key);
      return int64_t{0};
    }
    return fields.integer(key, 1, high).value_or(0);
  };
  config.hidden_size = size("hidden_size", kLargestSize);
  config.intermediate_size = size("intermediate_size", kLargestSize);
  config.num_layers = size("num_hidden_layers", kMostLayers);
  config.num_heads = size("num_attention_heads", kLargestSize);
  config.vocab_size = size("vocab_size", kLargestSize);
  config.max_position_embeddings = size("max_position_embeddings", kMostPositions);
  config.num_kv_heads = fields.integer("num_key_value_heads", 1, kLargestSize).value_or(config.num_heads);
  config.head_dim = fields.integer("head_dim", 1, kLargestSize).value_or(0);
  if (config.num_heads > 0 && config.num_heads % config.num_kv_heads != 0) {
    fields.fault("num_key_value_heads", "{} does not divide num_attention_heads {}", config.num_kv_heads,
                 config.num_heads);
  }
  if (config.head_dim == 0 && config.hidden_size > 0 && config.num_heads > 0) {
    if (config.hidden_size % config.num_heads != 0) {
      fields.fault("num_attention_heads", "{} does not divide hidden_size {}, and there is no head_dim",
                   config.num_heads, config.hidden_size);
    } else {
      config.head_dim = config.hidden_size / config.num_heads;
    }
  }
  if (const auto* window = fields.find("sliding_window"); window != nullptr) {
    config.sliding_window = fields.integer("sliding_window", 1, kMostPositions);
  }
  config.rms_norm_eps = fields.number("rms_norm_eps").value_or(config.rms_norm_eps);
  if (!(config.rms_norm_eps > 0 && config.rms_norm_eps < 1)) {
    fields.fault("rms_norm_eps", "found {}, wanted a number between 0 and 1", config.rms_norm_eps);
  }
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings").value_or(false);
}

// Parts of the network that the family does not have; present, they would change the numbers.
void refuse_foreign_parts(Fields& fields) {
  if (const auto act = fields.text("hidden_act"); act && *act != "silu" && *act != "swish") {
    fields.fault("hidden_act", "found \"{}\", wanted \"silu\"", *act);
  }
  for (const char* key : {"attention_bias", "mlp_bias", "lm_head_bias"}) {
    if (fields.boolean(key).value_or(false)) {
      fields.fault(key, "found true, wanted false: this architecture has no biases");
    }
  }
  // embd_pdrop is stored by every config and applied by none.
  for (const char* key : {"resid_pdrop", "attention_dropout"}) {
    if (const auto p = fields.number(key).value_or(0.0); p != 0.0) {
      fields.fault(key, "found {}, wanted 0: dropout inside the frozen base is not applied; set it to 0.0", p);
    }
  }
}

std::vector<double> read_factors(Fields& fields, const char* key, int64_t count) {
  const auto* value = fields.find(key);
  if (value == nullptr) {
    fields.fault(key, "missing, wanted {} numbers (half the rotary width)", count);
    return {};
  }
  const bool all_good = value->is_array() && std::all_of(value->begin(), value->end(), [](const Json& item) {
                          return item.is_number() && item.get<double>() > 0;
                        });
  if (!all_good) {
    fields.fault(key, "found {}, wanted an array of positive numbers", shown(*value));
    return {};
  }
  if (static_cast<int64_t>(value->size()) != count) {
    fields.fault(key, "found {} numbers, wanted {} (half the rotary width)", value->size(), count);
  }
  return value->get<std::vector<double>>();
}

// transformers 5: attention_factor as given, else from the factor as given, else from the ratio of the two limits.
double resolve_attention_factor(Fields& rope, const ModelConfig& config) {
  if (const auto given = rope.number("attention_factor")) {
    if (!(*given > 0)) {
      rope.fault("attention_factor", "found {}, wanted a positive number", *given);
    }
    return *given;
  }
  const double original = static_cast<double>(config.original_max_position_embeddings);
  const double scale = rope.number("factor").value_or(static_cast<double>(config.max_position_embeddings) / original);
  return scale <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(scale) / std::log(original));
}

// Both spellings: rope_scaling beside rope_theta (transformers 4), rope_parameters (5). A non-empty rope_scaling wins.
void read_rope(Fields& fields, ModelConfig& config, Faults& faults, const std::string& place) {
  static const Json kNothing = Json::object();
  const Json* section = &kNothing;
  std::string prefix;
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (const auto* found = fields.find(key)) {
      if (!found->is_object()) {
        fields.fault(key, "found {}, wanted an object or null", shown(*found));
      } else if (!found->empty()) {
        section = found;
        prefix = std::string(key) + ".";
      }
    }
  }
  Fields rope(*section, place, faults, prefix);
  const auto either = [&](const char* key) {
    const auto inner = rope.number(key);
    const auto outer = fields.number(key);
    if (inner && outer && *inner != *outer) {
      fields.fault(key, "{} here and {} in {}; which holds?", *outer, *inner, prefix.substr(0, prefix.size() - 1));
    }
    return inner ? inner : outer;
  };
  config.rope.theta = either("rope_theta").value_or(config.rope.theta);
  if (!(config.rope.theta > 0)) {
    fields.fault("rope_theta", "found {}, wanted a positive number", config.rope.theta);
  }
  const double partial = either("partial_rotary_factor").value_or(1.0);
  if (!(partial > 0 && partial <= 1)) {
    fields.fault("partial_rotary_factor", "found {}, wanted a number above 0, at most 1", partial);
    return;
  }
  config.rotary_dim = static_cast<int64_t>(static_cast<double>(config.head_dim) * partial);
  if (config.head_dim > 0 && (config.rotary_dim < 2 || config.rotary_dim % 2 != 0)) {
    fields.fault("partial_rotary_factor", "{} of head width {} is a rotary width of {}, wanted an even number from 2",
                 partial, config.head_dim, config.rotary_dim);
  }
  auto original = fields.integer("original_max_position_embeddings", 2, kMostPositions);
  if (!original) {
    original = rope.integer("original_max_position_embeddings", 2, kMostPositions);
  }
  config.original_max_position_embeddings = original.value_or(kDefaultPositions);

  auto type = rope.text("rope_type");
  if (!type) {
    type = rope.text("type");
  }
  const std::string name = type.value_or("default");
  if (name == "default") {
    return;
  }
  if (name != "longrope" && name != "su" && name != "yarn") {  // the two old names of longrope in Phi-3 files
    rope.fault(rope.find("rope_type") != nullptr ? "rope_type" : "type",
               "found \"{}\", wanted \"longrope\" (older: \"su\") or \"default\"", name);
    return;
  }
  config.rope.type = RopeType::kLongRope;
  for (const char* key : {"short_mscale", "long_mscale"}) {
    if (rope.find(key) != nullptr) {
      rope.fault(key, "not a key of this architecture (Phi-3.5-MoE has it)");
    }
  }
  if (config.head_dim == 0) {
    return;  // reported already
  }
  config.rope.short_factor = read_factors(rope, "short_factor", config.rotary_dim / 2);
  config.rope.long_factor = read_factors(rope, "long_factor", config.rotary_dim / 2);
  config.rope.attention_factor = resolve_attention_factor(rope, config);
}

void read_quantization(Fields& fields, ModelConfig& config, Faults& faults, const std::string& place) {
  const auto* found = fields.find("quantization_config");
  if (found == nullptr) {
    return;
  }
  if (!found->is_object()) {
    fields.fault("quantization_config", "found {}, wanted an object or null", shown(*found));
    return;
  }
  Fields section(*found, place, faults, "quantization_config.");
  const auto wanted = [&](const char* key, const char* value, const char* otherwise) {
    const auto text = section.text(key).value_or(otherwise);
    if (text != value) {
      section.fault(key,
                    "found \"{}\", wanted \"{}\" (bitsandbytes NF4), or 16-bit weights without a "
                    "quantization_config",
                    text, value);
    }
    return text;
  };
  if (wanted("quant_method", "bitsandbytes", "") != "bitsandbytes") {
    return;
  }
  if (section.boolean("load_in_8bit").value_or(false) || !section.boolean("load_in_4bit").value_or(false)) {
    section.fault("load_in_4bit", "the weights are not in 4 bits; wanted NF4 or 16-bit weights");
    return;
  }
  QuantizationConfig quantization;
  quantization.quant_type = wanted("bnb_4bit_quant_type", "nf4", "fp4");
  wanted("bnb_4bit_quant_storage", "uint8", "uint8");
  quantization.double_quant = section.boolean("bnb_4bit_use_double_quant").value_or(false);
  quantization.compute_dtype = section.text("bnb_4bit_compute_dtype").value_or("float32");
  config.quantization = quantization;
}

void read_token_ids(Fields& fields, ModelConfig& config) {
  if (config.vocab_size == 0) {
    return;  // reported already
  }
  const int64_t last = config.vocab_size - 1;
  config.bos_token_id = fields.integer("bos_token_id", 0, last);
  config.pad_token_id = fields.integer("pad_token_id", 0, last);
  if (const auto* eos = fields.find("eos_token_id"); eos != nullptr && eos->is_array()) {
    for (const auto& id : *eos) {
      if (!id.is_number_integer() || id < 0 || id > last) {
        fields.fault("eos_token_id", "holds {}, wanted token ids from 0 to {}", shown(id), last);
        return;
      }
      config.eos_token_ids.push_back(id.get<int64_t>());
    }
  } else if (const auto id = fields.integer("eos_token_id", 0, last)) {
    config.eos_token_ids.push_back(*id);
  }
}

void read_dtype(Fields& fields, ModelConfig& config) {
  auto dtype = fields.text("torch_dtype");
  if (!dtype) {
    dtype = fields.text("dtype");  // transformers 5
  }
  config.torch_dtype = dtype.value_or("");
  if (config.torch_dtype.starts_with("torch.")) {
    config.torch_dtype.erase(0, 6);
  }
}

}  // namespace

ModelConfig parse_model_config(const Json& json, const std::string& place) {
  if (!json.is_object()) {
    throw ModelError("{}: found {}, wanted a JSON object", place, shown(json));
  }
  check_architecture(json, place);
  Faults faults;
  Fields fields(json, place, faults);
  ModelConfig config;
  read_sizes(fields, config, faults, place);
  refuse_foreign_parts(fields);
  read_rope(fields, config, faults, place);
  read_quantization(fields, config, faults, place);
  read_token_ids(fields, config);
  read_dtype(fields, config);
  if (!faults.empty()) {
    throw ModelError(faults.text());
  }
  return config;
}

ModelConfig read_model_config(const std::string& folder) {
  const std::string path = folder + "/config.json";
  return parse_model_config(io::read_json_file<ModelError>(path), path);
}

}  // namespace phi3tune::phi3
