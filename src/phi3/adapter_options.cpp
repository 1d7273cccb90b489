#include "phi3tune/phi3/adapter_options.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/core/pattern.h"

namespace phi3tune::phi3 {
namespace {

constexpr std::array kKinds{LinearKind::kQkv, LinearKind::kO, LinearKind::kGateUp, LinearKind::kDown};

// PEFT's rule for a list entry: the path itself, or its ending after a dot.
bool names(const std::string& entry, const std::string& path) { return path == entry || path.ends_with("." + entry); }

constexpr const char* kWanted =
    "the linears of this model are qkv_proj, o_proj, gate_up_proj and down_proj of each layer";

[[noreturn]] void refuse_pattern(const char* setting, const std::string& pattern, const PatternFault& fault) {
  throw ConfigError("{}: \"{}\": {}; wanted a regular expression for module names such as {}", setting, pattern,
                    fault.what(), linear_path(0, LinearKind::kQkv));
}

// Every key of rank_pattern and alpha_pattern has something to say.
template <typename T>
void check_patterns(const char* setting, const std::vector<std::pair<std::string, T>>& patterns,
                    const std::vector<std::string>& paths) {
  for (const auto& [key, value] : patterns) {
    try {
      const Pattern pattern("(.*\\.)?(" + key + ")");
      if (std::none_of(paths.begin(), paths.end(),
                       [&](const std::string& path) { return pattern.matches_whole(path); })) {
        throw ConfigError("{}: \"{}\" matches no module that is adapted; {}", setting, key, kWanted);
      }
    } catch (const PatternFault& fault) {
      refuse_pattern(setting, key, fault);
    }
  }
}

// Whether lora_layers takes each layer.
std::vector<bool> adapted_layers(const config::LoraOptions& options, const ModelConfig& model) {
  const int64_t count = model.num_layers;
  const bool all = options.layers.empty() && !options.last_layers;
  std::vector<bool> adapted(static_cast<size_t>(count), all);
  if (options.last_layers) {
    if (*options.last_layers > count) {
      throw ConfigError("lora_layers: last:{} asks for more layers than there are; this model has {}",
                        *options.last_layers, count);
    }
    std::fill(adapted.end() - *options.last_layers, adapted.end(), true);
  }
  for (const int64_t layer : options.layers) {
    if (layer >= count) {
      throw ConfigError("lora_layers: there is no layer {}; this model has the layers 0 to {}", layer, count - 1);
    }
    adapted[static_cast<size_t>(layer)] = true;
  }
  return adapted;
}

}  // namespace

AdapterConfig adapter_config_for(const config::LoraOptions& options, const ModelConfig& model,
                                 const std::string& base_name) {
  std::vector<bool> used(options.target_modules.size(), false);
  std::optional<Pattern> regex;
  try {
    if (!options.target_regex.empty()) {
      regex.emplace(options.target_regex);
    }
  } catch (const PatternFault& fault) {
    refuse_pattern("lora_target_regex", options.target_regex, fault);
  }
  const auto chosen = [&](const std::string& path) {
    bool in = false;
    if (regex) {
      try {
        in = regex->matches_whole(path);
      } catch (const PatternFault& fault) {
        refuse_pattern("lora_target_regex", options.target_regex, fault);
      }
    } else {
      for (size_t i = 0; i < options.target_modules.size(); ++i) {
        const auto& entry = options.target_modules[i];
        if (entry == "all-linear" || names(entry, path)) {
          used[i] = in = true;
        }
      }
    }
    return in && std::none_of(options.exclude_modules.begin(), options.exclude_modules.end(),
                              [&](const std::string& entry) { return names(entry, path); });
  };

  const auto adapted = adapted_layers(options, model);
  std::vector<std::string> paths;
  std::array<int64_t, kLinearKinds> layers_with{};
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (const auto kind : kKinds) {
      auto path = linear_path(layer, kind);
      if (chosen(path) && adapted[static_cast<size_t>(layer)]) {
        ++layers_with[static_cast<size_t>(kind)];
        paths.push_back(std::move(path));
      }
    }
  }
  if (options.target_regex.empty()) {
    for (size_t i = 0; i < used.size(); ++i) {
      if (!used[i]) {
        throw ConfigError("lora_target_modules: \"{}\" matches no module; {}", options.target_modules[i], kWanted);
      }
    }
  }
  if (paths.empty()) {
    throw ConfigError("{}: nothing is left to adapt{}; {}", regex ? "lora_target_regex" : "lora_target_modules",
                      options.layers.empty() && !options.last_layers ? "" : " in the layers of lora_layers", kWanted);
  }
  check_patterns("lora_rank_pattern", options.rank_pattern, paths);
  check_patterns("lora_alpha_pattern", options.alpha_pattern, paths);

  AdapterConfig adapter;
  adapter.rank = options.rank;
  adapter.alpha = options.alpha;
  adapter.dropout = options.dropout;
  adapter.use_rslora = options.use_rslora;
  adapter.use_dora = options.use_dora;
  adapter.rank_pattern = options.rank_pattern;
  adapter.alpha_pattern = options.alpha_pattern;
  adapter.modules_to_save = options.modules_to_save;
  adapter.base_model_name_or_path = base_name;
  const bool whole_kinds = std::all_of(layers_with.begin(), layers_with.end(),
                                       [&](int64_t count) { return count == 0 || count == model.num_layers; });
  if (!whole_kinds) {
    adapter.target_modules = std::move(paths);
    return adapter;
  }
  for (const auto kind : kKinds) {
    if (layers_with[static_cast<size_t>(kind)] > 0) {
      adapter.target_modules.emplace_back(linear_name(kind));
    }
  }
  return adapter;
}

}  // namespace phi3tune::phi3
