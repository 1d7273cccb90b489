// phi3-tune config check | show | schema | explain, and the README's list of settings.
#pragma once

#include <string>

#include "phi3tune/config/settings.h"

namespace phi3tune::commands {

struct ConfigOptions {
  config::SettingsSources sources;
  bool json = false;
};

// Reads settings and looks at the inputs they name; "good", or every fault: thrown, and with json on standard output
// too.
int run_config_check(const ConfigOptions& options);
// The settings as resolved, and where each comes from.
int run_config_show(const ConfigOptions& options);
int run_config_schema();
int run_config_explain(const std::string& name, bool json);
int run_config_table();

}  // namespace phi3tune::commands
