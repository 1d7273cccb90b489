// phi3-tune plan: what a run takes of memory and arithmetic, and what fits, from its settings and config.json alone.
#pragma once

#include <string>
#include <vector>

#include "phi3tune/config/settings.h"

namespace phi3tune::commands {

struct PlanOptions {
  config::SettingsSources sources;
  std::string device_memory;  // "8GiB"; empty: the GPU's own, where one is named
  std::string gpu;            // a name of plan::known_gpus(); empty: none, and no time is told
  bool json = false;
};

std::vector<std::string> plan_gpu_names();  // what `gpu` may be

// Prints the plan. Throws ConfigError, ModelError; ResourceError, after printing, where the run does not fit into the
// memory that is given.
int run_plan(const PlanOptions& options);

}  // namespace phi3tune::commands
