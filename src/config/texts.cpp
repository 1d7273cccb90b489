// What people and editors read about the settings: explain, show, the README's list, names for completion.
#include <fmt/format.h>

#include <algorithm>

#include "config/names.h"
#include "phi3tune/config/settings.h"
#include "phi3tune/core/error.h"

namespace phi3tune::config {
namespace {

template <typename Options>
std::string default_of(const Setting<Options>& setting) {
  if (setting.required) {
    return "required";
  }
  if (!setting.stands_for.empty()) {
    return "see " + setting.stands_for;
  }
  const auto value = setting.show(Options());
  if (value.is_null() || !setting.default_text.empty()) {
    return setting.default_text.empty() ? "none" : setting.default_text;
  }
  if (value.is_array() && value.size() == 1) {
    return value.front().dump();
  }
  return value.is_string() ? value.template get<std::string>() : value.dump();
}

template <typename Options>
std::vector<std::string> rivals_of(const Setting<Options>& setting, const std::vector<Setting<Options>>& table) {
  std::vector<std::string> names;
  for (const auto& other : table) {
    if (!setting.group.empty() && other.group == setting.group && other.name != setting.name) {
      names.push_back(other.name);
    }
  }
  return names;
}

std::string alias_text(const Alias& alias) {
  return fmt::format("{} ({}{})", alias.name, alias.peers,
                     alias.translation == Translation::kInverse      ? ", inverted"
                     : alias.translation == Translation::kBits       ? ", 4"
                     : alias.translation == Translation::kOneLayer   ? ", a number too: that layer"
                     : alias.translation == Translation::kLastLayers ? ", a number: the last so many"
                                                                     : "");
}

template <typename Options>
std::string explain(const Setting<Options>& setting, const std::vector<Setting<Options>>& table) {
  std::string text = fmt::format("{}: {}\n  value    {}\n  default  {}\n", setting.name, setting.doc,
                                 setting.type.wanted, default_of(setting));
  if (setting.applies) {
    text += fmt::format("  used     where {}\n", setting.applies_text);
  }
  if (const auto rivals = rivals_of(setting, table); !rivals.empty()) {
    text += fmt::format("  or       {}\n", fmt::join(rivals, ", "));
  }
  if (setting.type.kind == Kind::kInputPath) {
    text += "  path     relative to the file that names it; on the command line to the current folder\n";
  }
  for (size_t i = 0; i < setting.aliases.size(); ++i) {
    text += fmt::format("  {:<8} {}\n", i == 0 ? "also" : "", alias_text(setting.aliases[i]));
  }
  if (setting.type.kind == Kind::kRecords) {
    text += "  keys     ";
    for (const auto& key : dataset_settings()) {
      text += key.later ? "" : (text.ends_with("     ") ? "" : ", ") + key.name;
    }
    text += fmt::format("\n           `phi3-tune config explain datasets.KEY` explains one\n");
  }
  return text;
}

template <typename Options>
io::Json explain_json(const Setting<Options>& setting, const std::vector<Setting<Options>>& table) {
  io::Json aliases = io::Json::array();
  for (const auto& alias : setting.aliases) {
    aliases.push_back(
        {{"name", alias.name}, {"of", alias.peers}, {"inverted", alias.translation == Translation::kInverse}});
  }
  io::Json json{{"name", setting.name},
                {"meaning", setting.doc},
                {"value", setting.type.wanted},
                {"required", setting.required},
                {"default", setting.required ? io::Json(nullptr) : setting.show(Options())},
                {"default_text", default_of(setting)},
                {"aliases", aliases},
                {"instead_of", rivals_of(setting, table)}};
  if (!setting.type.choices.empty()) {
    json["choices"] = setting.type.choices;
  }
  if (setting.applies) {
    json["used_where"] = setting.applies_text;
  }
  return json;
}

// Calls `found` with the row that `name` means, and its table.
template <typename Function>
auto with_setting(std::string_view name, Function found) {
  for (const std::string_view prefix : {"datasets.", "test_datasets.", "datasets[].", "test_datasets[]."}) {
    if (name.starts_with(prefix)) {
      const auto key = name.substr(prefix.size());
      const auto* setting = find_dataset_key(key);
      if (setting == nullptr || setting->later) {
        throw ConfigError("{}", refusal_of_dataset_key(key));
      }
      return found(*setting, dataset_settings());
    }
  }
  const auto known = find_name(name);
  if (known.setting == nullptr || known.setting->later) {
    if (const auto* key = find_dataset_key(name); known.setting == nullptr && key != nullptr && !key->later) {
      return found(*key, dataset_settings());
    }
    throw ConfigError("{}", refusal_of(name));
  }
  return found(*known.setting, run_settings());
}

// A cell of a Markdown table.
std::string cell(std::string text) {
  for (size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2)) {
    text.insert(at, 1, '\\');
  }
  return text;
}

template <typename Options>
std::string markdown_row(const Setting<Options>& setting) {
  std::vector<std::string> names;
  for (const auto& alias : setting.aliases) {
    names.push_back(fmt::format("`{}`{}", alias.name,
                                alias.translation == Translation::kInverse      ? " (inverted)"
                                : alias.translation == Translation::kLastLayers ? " (the last so many)"
                                                                                : ""));
  }
  const auto standard = default_of(setting);
  const bool words = setting.required || standard.find(' ') != std::string::npos || standard == "none";
  return fmt::format("| `{}` | {} | {} | {} | {} |\n", setting.name, cell(setting.doc), cell(setting.type.wanted),
                     words ? standard : fmt::format("`{}`", standard), fmt::join(names, ", "));
}

constexpr const char* kMarkdownHead =
    "\n| setting | meaning | value | default | also known as |\n|---|---|---|---|---|\n";

template <typename Options>
void add_names(const std::vector<Setting<Options>>& table, std::vector<SettingName>& names) {
  for (const auto& setting : table) {
    if (setting.later) {
      continue;
    }
    const bool boolean = setting.type.kind == Kind::kBoolean;
    auto choices = boolean ? std::vector<std::string>{"true", "false"} : setting.type.choices;
    names.push_back({setting.name, setting.name, boolean, choices});
    for (const auto& alias : setting.aliases) {
      const bool bits = alias.translation == Translation::kBits;
      names.push_back({alias.name, setting.name, boolean && !bits, bits ? std::vector<std::string>{"4"} : choices});
    }
  }
}

}  // namespace

std::string explain_setting(std::string_view name) {
  return with_setting(name, [](const auto& setting, const auto& table) { return explain(setting, table); });
}

std::string explain_setting_json(std::string_view name) {
  return with_setting(
      name, [](const auto& setting, const auto& table) { return explain_json(setting, table).dump() + "\n"; });
}

std::string settings_markdown() {
  std::string text;
  std::string section;
  for (const auto& setting : run_settings()) {
    if (setting.later) {
      continue;
    }
    if (setting.section != section) {
      section = setting.section;
      text += fmt::format("{}**{}**\n{}", text.empty() ? "" : "\n", section, kMarkdownHead);
    }
    text += markdown_row(setting);
  }
  text += fmt::format("\n**Keys of a data set** (each entry of `datasets` and `test_datasets`)\n{}", kMarkdownHead);
  for (const auto& setting : dataset_settings()) {
    text += setting.later ? "" : markdown_row(setting);
  }
  return text;
}

std::string show_settings(const ResolvedSettings& settings) {
  std::string text;
  const auto& resolved = settings.options.resolved;
  for (size_t i = 0; i < resolved.size(); ++i) {
    const auto line = fmt::format("{}: {}", resolved[i].first, resolved[i].second);
    text += settings.origins[i].empty() ? line + "\n" : fmt::format("{:<40} # {}\n", line, settings.origins[i]);
  }
  return text;
}

std::string show_settings_json(const ResolvedSettings& settings) {
  std::string text;
  for (const auto& [name, value] : settings.options.resolved) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", io::Json(name).dump(), value);
  }
  return "{" + text + "}\n";
}

const std::vector<SettingName>& setting_names() {
  static const auto names = [] {
    std::vector<SettingName> all;
    add_names(run_settings(), all);
    return all;
  }();
  return names;
}

}  // namespace phi3tune::config
