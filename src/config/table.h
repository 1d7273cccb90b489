// The table of settings: every name of a settings file stands here once, in the order of the lists made from it.
#pragma once

#include <vector>

#include "config/setting.h"

namespace phi3tune::config {

const std::vector<Setting<RunOptions>>& run_settings();
// The keys of one entry of `datasets` or `test_datasets`.
const std::vector<Setting<DatasetOptions>>& dataset_settings();

// The table's parts, in order.
void add_model_settings(SettingList<RunOptions>& list);
void add_adapter_settings(SettingList<RunOptions>& list);
void add_data_settings(SettingList<RunOptions>& list);
void add_schedule_settings(SettingList<RunOptions>& list);
void add_compute_settings(SettingList<RunOptions>& list);
void add_evaluation_settings(SettingList<RunOptions>& list);
void add_output_settings(SettingList<RunOptions>& list);

// Reads `datasets`: a list of mappings; a path alone stands for {path: ...}.
void read_datasets(const io::YamlNode& node, Reader& reader, std::vector<DatasetOptions>& datasets);
io::Json show_datasets(const std::vector<DatasetOptions>& datasets);

// Reads lora_target_modules: names, "all-linear", or a regular expression. Names of split checkpoints are mapped to
// the fused ones with a note.
void read_target_modules(const io::YamlNode& node, Reader& reader, LoraOptions& lora);
void read_exclude_modules(const io::YamlNode& node, Reader& reader, LoraOptions& lora);
// Reads lora_layers: a list of layers, or last:N.
void read_layers(const io::YamlNode& node, Reader& reader, LoraOptions& lora);
io::Json show_layers(const LoraOptions& lora);
// Reads a map of regular expressions to numbers. A split name as a pattern is a fault.
std::vector<std::pair<std::string, double>> read_pattern_map(const io::YamlNode& node, Reader& reader, bool integers,
                                                             const Range& range);

// The row of that canonical name, or null.
template <typename Options>
const Setting<Options>* find_setting(const std::vector<Setting<Options>>& table, std::string_view name) {
  for (const auto& setting : table) {
    if (setting.name == name) {
      return &setting;
    }
  }
  return nullptr;
}

}  // namespace phi3tune::config
