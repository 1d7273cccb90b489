#include "phi3tune/phi3/adapter_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "phi3/containment.h"
#include "phi3/faults.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/pattern.h"
#include "phi3tune/core/text.h"

namespace phi3tune::phi3 {
namespace {

using io::Json;

bool matches_whole(const std::string& pattern, const std::string& path) {
  try {
    return Pattern(pattern).matches_whole(path);
  } catch (const PatternFault& error) {
    throw CheckpointError("pattern `{}` cannot be used: {}", pattern, error.what());
  }
}

// PEFT's rule for rank_pattern and alpha_pattern: the first key that matches the end of the path, after a dot.
template <typename T>
const T* find_override(const std::vector<std::pair<std::string, T>>& patterns, const std::string& path) {
  for (const auto& [key, value] : patterns) {
    if (matches_whole("(.*\\.)?(" + key + ")", path)) {
      return &value;
    }
  }
  return nullptr;
}

bool is_plain_list(const Json& value) {
  return value.is_array() && std::all_of(value.begin(), value.end(), [](const Json& item) { return item.is_string(); });
}

// What changes the adapted network in a way the four fields we keep cannot say. Values that mean "off" pass.
void refuse_what_we_cannot_hold(const Json& json, Fields& fields) {
  const auto off = [](const Json& value) {
    return value.is_null() || value == false || ((value.is_object() || value.is_array()) && value.empty());
  };
  struct Refused {
    const char* key;
    const char* why;
  };
  constexpr Refused kRefused[] = {
      {"use_qalora", "a QA-LoRA adapter; only LoRA can be read"},
      {"use_bdlora", "a BD-LoRA adapter; only LoRA can be read"},
      {"kasa_config", "a KaSA adapter; only LoRA can be read"},
      {"velora_config", "a VeLoRA adapter; only LoRA can be read"},
      {"monteclora_config", "a MonteCLoRA adapter; only LoRA can be read"},
      {"arrow_config", "a mixture of adapters; only one LoRA can be read"},
      {"lora_bias", "biases in the adapter; the four linears have none"},
      {"trainable_token_indices", "trained token rows beside the adapter; only LoRA weights can be read"},
      {"target_parameters", "adapted parameters; only linears can be read"},
      {"layer_replication", "replicated layers; the base must stay as it is"},
      {"alora_invocation_tokens", "an activated LoRA; only plain LoRA can be read"},
      {"exclude_modules", "excluded modules; name the adapted ones in target_modules instead"},
  };
  for (const auto& [key, why] : kRefused) {
    if (const auto found = json.find(key); found != json.end() && !off(*found)) {
      fields.fault(key, "found {}: {}", shown(*found), why);
    }
  }
  if (const auto bias = fields.text("bias"); bias && *bias != "none") {
    fields.fault("bias", "found \"{}\", wanted \"none\": the four linears have no biases", *bias);
  }
  if (fields.boolean("fan_in_fan_out").value_or(false)) {
    log_warning("fan_in_fan_out is true in the adapter's config; it means nothing for these linears, as in PEFT");
  }
  // Start values other than these are written into the base weights, which then are not those of the base folder.
  if (const auto* init = fields.find("init_lora_weights"); init != nullptr && !init->is_boolean()) {
    const bool leaves_base = *init == "gaussian" || *init == "eva" || *init == "orthogonal";
    if (!leaves_base) {
      fields.fault("init_lora_weights",
                   "found {}: this start changes the base weights too; save the adapter as plain LoRA "
                   "(path_initial_model_for_weight_conversion in PEFT)",
                   shown(*init));
    }
  }
}

void read_targets(Fields& fields, AdapterConfig& config) {
  const auto* targets = fields.find("target_modules");
  if (targets == nullptr) {
    fields.fault("target_modules", "missing; PEFT has no default for this architecture");
  } else if (targets->is_string() && *targets == "all-linear") {
    config.target_modules = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"};
  } else if (targets->is_string()) {
    config.target_regex = targets->get<std::string>();
    try {
      matches_whole(config.target_regex, "");
    } catch (const CheckpointError& error) {
      fields.fault("target_modules", "{}", error.what());
    }
  } else if (is_plain_list(*targets) && !targets->empty()) {
    config.target_modules = targets->get<std::vector<std::string>>();
  } else {
    fields.fault("target_modules", "found {}, wanted a list of names or a pattern", shown(*targets));
  }
}

template <typename T>
std::vector<std::pair<std::string, T>> read_patterns(Fields& fields, const char* key) {
  std::vector<std::pair<std::string, T>> patterns;
  const auto* value = fields.find(key);
  if (value == nullptr) {
    return patterns;
  }
  if (!value->is_object()) {
    fields.fault(key, "found {}, wanted an object of numbers", shown(*value));
    return patterns;
  }
  for (const auto& [pattern, number] : value->items()) {
    const bool right = std::is_integral_v<T> ? number.is_number_integer() : number.is_number();
    if (!right || number <= 0) {
      fields.fault(key, "{} is {}, wanted a {} above 0", shown(Json(pattern)), shown(number),
                   std::is_integral_v<T> ? "whole number" : "number");
      continue;
    }
    try {
      matches_whole("(.*\\.)?(" + pattern + ")", "");
    } catch (const CheckpointError& error) {
      fields.fault(key, "{}", error.what());
      continue;
    }
    patterns.emplace_back(pattern, number.template get<T>());
  }
  return patterns;
}

bool is_whole_module(const std::string& name, WholeModule module) {
  const std::string_view path = whole_module_path(module);
  return path == name || (path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
}

void read_whole_modules(Fields& fields, AdapterConfig& config) {
  const auto* modules = fields.find("modules_to_save");
  if (modules == nullptr) {
    return;
  }
  if (!is_plain_list(*modules)) {
    fields.fault("modules_to_save", "found {}, wanted a list of names", shown(*modules));
    return;
  }
  for (const auto& name : *modules) {
    const bool known = std::any_of(kWholeModules.begin(), kWholeModules.end(), [&](WholeModule module) {
      return is_whole_module(name.get<std::string>(), module);
    });
    if (!known) {
      fields.fault("modules_to_save", "found {}: only embed_tokens and lm_head can be trained whole beside an adapter",
                   shown(name));
    }
  }
  config.modules_to_save = modules->get<std::vector<std::string>>();
}

// The layer of "model.layers.3.mlp.down_proj" is among `layers`, or there is no choice.
bool lies_in_layer(const std::string& path, const std::vector<int64_t>& layers) {
  constexpr std::string_view kLayers = "layers.";
  const auto place = path.find(kLayers);
  if (layers.empty() || place == std::string::npos) {
    return layers.empty();
  }
  const auto begin = place + kLayers.size();
  const auto layer = parse_int(path.substr(begin, path.find('.', begin) - begin));
  return layer && std::find(layers.begin(), layers.end(), *layer) != layers.end();
}

// layers_to_transform: null, a layer or a list; layers_pattern names the list of layers, which here is "layers".
void read_layers(Fields& fields, AdapterConfig& config) {
  constexpr int64_t kMost = 65535;
  const auto is_layer = [](const Json& value) { return value.is_number_integer() && value >= 0 && value <= kMost; };
  const auto* layers = fields.find("layers_to_transform");
  if (layers == nullptr || (layers->is_array() && layers->empty())) {
    return;
  }
  if (!is_layer(*layers) && !(layers->is_array() && std::all_of(layers->begin(), layers->end(), is_layer))) {
    fields.fault("layers_to_transform", "found {}, wanted a layer from 0 or a list of them", shown(*layers));
    return;
  }
  config.layers = layers->is_array() ? layers->get<std::vector<int64_t>>() : std::vector{layers->get<int64_t>()};
  if (!config.target_regex.empty()) {
    fields.fault("layers_to_transform", "cannot be used where target_modules is a pattern");
  }
  const auto* pattern = fields.find("layers_pattern");
  const bool usual = pattern == nullptr || *pattern == "layers" || *pattern == "" ||
                     (pattern->is_array() &&
                      std::all_of(pattern->begin(), pattern->end(), [](const Json& item) { return item == "layers"; }));
  if (!usual) {
    fields.fault("layers_pattern", "found {}, wanted null or \"layers\": that is where this model's layers are",
                 shown(*pattern));
  }
}

// Python writes a float that is whole with ".0", and lora_alpha is an int in nearly every file.
Json as_python_number(double value) {
  constexpr double kExact = 9007199254740992.0;
  if (value == std::floor(value) && std::abs(value) < kExact) {
    return Json(static_cast<int64_t>(value));
  }
  return Json(value);
}

}  // namespace

int64_t AdapterConfig::rank_of(const std::string& module_path) const {
  const auto* override = find_override(rank_pattern, module_path);
  return override == nullptr ? rank : *override;
}

double AdapterConfig::alpha_of(const std::string& module_path) const {
  const auto* override = find_override(alpha_pattern, module_path);
  return override == nullptr ? alpha : *override;
}

double AdapterConfig::scale_of(const std::string& module_path) const {
  const double r = static_cast<double>(rank_of(module_path));
  return alpha_of(module_path) / (use_rslora ? std::sqrt(r) : r);
}

bool AdapterConfig::targets(const std::string& module_path) const {
  if (!target_regex.empty()) {
    return matches_whole(target_regex, module_path);
  }
  return std::any_of(target_modules.begin(), target_modules.end(), [&](const std::string& name) {
    return module_path == name || (module_path.ends_with("." + name) && lies_in_layer(module_path, layers));
  });
}

const char* whole_module_path(WholeModule module) noexcept {
  return module == WholeModule::kEmbedding ? "model.embed_tokens" : "lm_head";
}

// PEFT's rule: a module whose path ends in the entry.
bool AdapterConfig::trains_whole(WholeModule module) const {
  return std::any_of(modules_to_save.begin(), modules_to_save.end(),
                     [&](const std::string& name) { return is_whole_module(name, module); });
}

int64_t adapter_parameters(const ModelConfig& model, const AdapterConfig& config) {
  int64_t total = 0;
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (int k = 0; k < kLinearKinds; ++k) {
      const auto kind = static_cast<LinearKind>(k);
      const auto path = linear_path(layer, kind);
      if (config.targets(path)) {
        total += config.rank_of(path) * (linear_in(model, kind) + linear_out(model, kind));
        total += config.use_dora ? linear_out(model, kind) : 0;
      }
    }
  }
  for (const auto module : kWholeModules) {
    total += config.trains_whole(module) ? model.vocab_size * model.hidden_size : 0;
  }
  return total;
}

AdapterConfig parse_adapter_config(const Json& json, const std::string& place) {
  if (!json.is_object()) {
    throw CheckpointError("{}: found {}, wanted a JSON object", place, shown(json));
  }
  Faults faults;
  Fields fields(json, place, faults);
  if (const auto type = fields.text("peft_type"); !type || *type != "LORA") {
    throw CheckpointError("{}: peft_type: found {}, wanted \"LORA\"", place,
                          json.contains("peft_type") ? shown(json["peft_type"]) : "nothing");
  }
  AdapterConfig config;
  constexpr int64_t kLargestRank = int64_t{1} << 20;
  config.rank = fields.integer("r", 1, kLargestRank).value_or(config.rank);
  // PEFT takes 8 for a file without it; a scale that was lost is not guessed here.
  if (const auto alpha = fields.number("lora_alpha")) {
    config.alpha = *alpha;
    if (*alpha == 0) {
      fields.fault("lora_alpha", "found 0, wanted another number: the update is scaled by lora_alpha / r");
    }
  } else if (!json.contains("lora_alpha")) {
    fields.fault("lora_alpha", "found nothing, wanted a number: the update is scaled by lora_alpha / r");
  }
  config.dropout = fields.number("lora_dropout").value_or(config.dropout);
  if (!(config.dropout >= 0 && config.dropout < 1)) {
    fields.fault("lora_dropout", "found {}, wanted a number from 0 to below 1", config.dropout);
  }
  config.use_rslora = fields.boolean("use_rslora").value_or(false);
  config.use_dora = fields.boolean("use_dora").value_or(false);
  config.base_model_name_or_path = fields.text("base_model_name_or_path").value_or("");
  read_targets(fields, config);
  read_layers(fields, config);
  read_whole_modules(fields, config);
  config.rank_pattern = read_patterns<int64_t>(fields, "rank_pattern");
  config.alpha_pattern = read_patterns<double>(fields, "alpha_pattern");
  refuse_what_we_cannot_hold(json, fields);
  if (!faults.empty()) {
    throw CheckpointError(faults.text());
  }
  return config;
}

AdapterConfig read_adapter_config(const std::string& folder) {
  const std::string path = folder + "/adapter_config.json";
  if (leads_out(folder, path)) {
    throw CheckpointError("{}: a link that leads out of the adapter folder; copy the file into the folder", path);
  }
  return parse_adapter_config(io::read_json_file<CheckpointError>(path), path);
}

std::string adapter_config_text(const AdapterConfig& config) {
  const auto patterns = [](const auto& pairs) {
    Json object = Json::object();
    for (const auto& [key, value] : pairs) {  // in order: the first match wins
      if constexpr (std::is_same_v<std::decay_t<decltype(value)>, double>) {
        object[key] = as_python_number(value);
      } else {
        object[key] = value;
      }
    }
    return object;
  };
  Json json = Json::object();
  json["alpha_pattern"] = patterns(config.alpha_pattern);
  json["auto_mapping"] = nullptr;
  json["base_model_name_or_path"] =
      config.base_model_name_or_path.empty() ? Json(nullptr) : Json(config.base_model_name_or_path);
  json["bias"] = "none";
  json["fan_in_fan_out"] = false;
  json["inference_mode"] = true;
  json["init_lora_weights"] = true;
  json["layers_pattern"] = nullptr;
  json["layers_to_transform"] = config.layers.empty() ? Json(nullptr) : Json(config.layers);
  json["loftq_config"] = Json::object();
  json["lora_alpha"] = as_python_number(config.alpha);
  json["lora_dropout"] = config.dropout;
  json["megatron_config"] = nullptr;
  json["megatron_core"] = "megatron.core";
  json["modules_to_save"] = config.modules_to_save.empty() ? Json(nullptr) : Json(config.modules_to_save);
  json["peft_type"] = "LORA";
  json["r"] = config.rank;
  json["rank_pattern"] = patterns(config.rank_pattern);
  json["revision"] = nullptr;
  json["target_modules"] = config.target_regex.empty() ? Json(config.target_modules) : Json(config.target_regex);
  json["task_type"] = "CAUSAL_LM";
  json["use_dora"] = config.use_dora;
  json["use_rslora"] = config.use_rslora;
  constexpr int kIndent = 2;
  constexpr bool kOnlyAscii = true;  // as json.dumps writes
  return json.dump(kIndent, ' ', kOnlyAscii);
}

AdapterConfig with_doubled_rank(AdapterConfig config) {
  // alpha / r keeps its value when both double; alpha / sqrt(r) when alpha grows by sqrt(2).
  const double factor = config.use_rslora ? std::numbers::sqrt2 : 2.0;
  config.rank *= 2;
  config.alpha *= factor;
  for (auto& [pattern, rank] : config.rank_pattern) {
    rank *= 2;
  }
  for (auto& [pattern, alpha] : config.alpha_pattern) {
    alpha *= factor;
  }
  return config;
}

std::string lora_tensor_name(const std::string& module_path, char a_or_b) {
  return "base_model.model." + module_path + ".lora_" + a_or_b + ".weight";
}

std::string whole_tensor_name(WholeModule module) {
  return std::string("base_model.model.") + whole_module_path(module) + ".weight";
}

std::string magnitude_tensor_name(const std::string& module_path) {
  return "base_model.model." + module_path + ".lora_magnitude_vector";
}

}  // namespace phi3tune::phi3
