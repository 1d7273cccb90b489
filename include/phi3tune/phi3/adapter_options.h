// From the LoRA settings of a run to the adapter that PEFT will read.
#pragma once

#include <string>

#include "phi3tune/config/options.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::phi3 {

// Expands `all-linear`, names, paths or the regex over the base's linears, less the excluded ones. The list that
// results names kinds ("qkv_proj") where every layer agrees, full paths elsewhere. Throws ConfigError when nothing
// matches, or an entry matches nothing, naming what there is.
AdapterConfig adapter_config_for(const config::LoraOptions& options, const ModelConfig& model,
                                 const std::string& base_name);

}  // namespace phi3tune::phi3
