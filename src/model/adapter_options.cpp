#include "phi3tune/model/adapter_options.h"

#include <algorithm>
#include <array>
#include <regex>
#include <vector>

#include "phi3tune/core/error.h"

namespace phi3tune::model {
namespace {

constexpr std::array kKinds{phi3::LinearKind::kQkv, phi3::LinearKind::kO, phi3::LinearKind::kGateUp,
                            phi3::LinearKind::kDown};

// PEFT's rule for a list entry: the path itself, or its ending after a dot.
bool names(const std::string& entry, const std::string& path) { return path == entry || path.ends_with("." + entry); }

bool matches_regex(const std::string& pattern, const std::string& path, const char* setting) {
  try {
    return std::regex_match(path, std::regex(pattern));
  } catch (const std::regex_error& fault) {
    throw ConfigError(
        "{}: \"{}\" is not a regular expression ({}); wanted one that matches whole module paths such as {}", setting,
        pattern, fault.what(), phi3::linear_path(0, phi3::LinearKind::kQkv));
  }
}

}  // namespace

phi3::AdapterConfig adapter_config_for(const config::LoraOptions& options, const phi3::ModelConfig& model,
                                       const std::string& base_name) {
  std::vector<bool> used(options.target_modules.size(), false);
  const auto chosen = [&](const std::string& path) {
    bool in = false;
    if (!options.target_regex.empty()) {
      in = matches_regex(options.target_regex, path, "lora_target_regex");
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

  std::vector<std::string> paths;
  std::array<int64_t, phi3::kLinearKinds> layers_with{};
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (const auto kind : kKinds) {
      auto path = phi3::linear_path(layer, kind);
      if (chosen(path)) {
        ++layers_with[static_cast<size_t>(kind)];
        paths.push_back(std::move(path));
      }
    }
  }
  constexpr const char* kWanted = "the linears of this model are qkv_proj, o_proj, gate_up_proj and down_proj";
  if (options.target_regex.empty()) {
    for (size_t i = 0; i < used.size(); ++i) {
      if (!used[i]) {
        throw ConfigError("lora_target_modules: \"{}\" matches no module; {}", options.target_modules[i], kWanted);
      }
    }
  }
  if (paths.empty()) {
    throw ConfigError("lora_target_modules: nothing is left to adapt; {}", kWanted);
  }

  phi3::AdapterConfig adapter;
  adapter.rank = options.rank;
  adapter.alpha = options.alpha;
  adapter.dropout = options.dropout;
  adapter.use_rslora = options.use_rslora;
  adapter.rank_pattern = options.rank_pattern;
  adapter.alpha_pattern = options.alpha_pattern;
  adapter.base_model_name_or_path = base_name;
  const bool whole_kinds = std::all_of(layers_with.begin(), layers_with.end(),
                                       [&](int64_t count) { return count == 0 || count == model.num_layers; });
  if (!whole_kinds) {
    adapter.target_modules = std::move(paths);
    return adapter;
  }
  for (const auto kind : kKinds) {
    if (layers_with[static_cast<size_t>(kind)] > 0) {
      adapter.target_modules.emplace_back(phi3::linear_name(kind));
    }
  }
  return adapter;
}

}  // namespace phi3tune::model
