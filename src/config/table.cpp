#include "config/table.h"

namespace phi3tune::config {
namespace {

std::vector<Setting<RunOptions>> make_table() {
  SettingList<RunOptions> list;
  list.section("Form");
  list.add(fixed<RunOptions>("schema_version", {"1"}, {}, "Version of these settings."));
  add_model_settings(list);
  add_adapter_settings(list);
  add_data_settings(list);
  add_schedule_settings(list);
  add_compute_settings(list);
  add_evaluation_settings(list);
  add_output_settings(list);
  return list.take();
}

}  // namespace

const std::vector<Setting<RunOptions>>& run_settings() {
  static const auto table = make_table();
  return table;
}

}  // namespace phi3tune::config
