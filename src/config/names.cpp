#include "config/names.h"

#include <fmt/format.h>

#include <map>

#include "phi3tune/core/text.h"

namespace phi3tune::config {
namespace {

template <typename Options>
using NameMap = std::map<std::string_view, std::pair<const Setting<Options>*, const Alias*>>;

template <typename Options>
NameMap<Options> make_map(const std::vector<Setting<Options>>& table) {
  NameMap<Options> map;
  for (const auto& setting : table) {
    map.emplace(setting.name, std::pair(&setting, nullptr));
    for (const auto& alias : setting.aliases) {
      map.emplace(alias.name, std::pair(&setting, &alias));
    }
  }
  return map;
}

const NameMap<RunOptions>& run_names() {
  static const auto map = make_map(run_settings());
  return map;
}
const NameMap<DatasetOptions>& dataset_names() {
  static const auto map = make_map(dataset_settings());
  return map;
}

// Names to compare a slip with: canonical ones first, so that they win a draw, and none of one letter, which are near
// to everything short.
template <typename Options>
std::vector<std::string_view> candidates(const std::vector<Setting<Options>>& table) {
  std::vector<std::string_view> names;
  for (const bool works : {true, false}) {
    for (const auto& setting : table) {
      if (setting.later != works) {
        names.push_back(setting.name);
      }
    }
    for (const auto& setting : table) {
      for (const auto& alias : setting.aliases) {
        if (setting.later != works && alias.name.size() > 1) {
          names.push_back(alias.name);
        }
      }
    }
  }
  return names;
}

std::string does_not_work_yet(std::string_view name, std::string_view canonical) {
  return name == canonical ? fmt::format("{} does not work yet; take it out", name)
                           : fmt::format("{} is {}, which does not work yet; take it out", name, canonical);
}

// The name to suggest for a near one: the setting's own, unless the other name means the opposite or takes other
// values.
template <typename Options>
std::string_view suggested(std::string_view near, const NameMap<Options>& known) {
  const auto& [setting, alias] = known.at(near);
  return alias == nullptr || alias->translation == Translation::kSame ? std::string_view(setting->name) : near;
}

template <typename Options>
std::string unknown(std::string_view name, const std::vector<Setting<Options>>& table, const NameMap<Options>& known,
                    std::string_view what) {
  const auto names = candidates(table);
  const auto near = nearest_name(name, names);
  return fmt::format("{} is not {}{}", name, what,
                     near ? fmt::format("; did you mean {}?", suggested(*near, known))
                          : std::string("; `phi3-tune config schema` lists them all"));
}

}  // namespace

KnownName find_name(std::string_view name) {
  const auto found = run_names().find(name);
  return found == run_names().end() ? KnownName() : KnownName{found->second.first, found->second.second};
}

const Setting<DatasetOptions>* find_dataset_key(std::string_view name) {
  const auto found = dataset_names().find(name);
  return found == dataset_names().end() ? nullptr : found->second.first;
}

std::string refusal_of(std::string_view name) {
  if (const auto known = find_name(name); known.setting != nullptr) {
    return does_not_work_yet(name, known.setting->name);
  }
  if (const auto* foreign = find_foreign_key(name)) {
    return foreign->tool.empty() ? fmt::format("{} {}", name, foreign->instead)
                                 : fmt::format("{} is {}; {}", name, foreign->tool, foreign->instead);
  }
  if (find_dataset_key(name) != nullptr) {
    return fmt::format("{} belongs inside an entry of datasets", name);
  }
  return unknown(name, run_settings(), run_names(), "a setting");
}

std::string refusal_of_dataset_key(std::string_view name) {
  if (const auto* setting = find_dataset_key(name)) {
    return does_not_work_yet(name, setting->name);
  }
  if (find_name(name).setting != nullptr) {
    return fmt::format("{} is a setting of the whole run; write it beside datasets, not inside", name);
  }
  if (const auto* foreign = find_foreign_key(name); foreign != nullptr && !foreign->tool.empty()) {
    return fmt::format("{} is {}; {}", name, foreign->tool, foreign->instead);
  }
  return unknown(name, dataset_settings(), dataset_names(), "a key of a data set");
}

}  // namespace phi3tune::config
