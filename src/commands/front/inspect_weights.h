// What a model folder, an adapter folder, a safetensors file and a GGUF file hold, for inspect.
#pragma once

#include <string>

#include "phi3tune/io/json.h"

namespace phi3tune::commands {

// One object: kind, path and what there is to know. Throw ModelError or CheckpointError, one line a fault.
io::Json describe_model(const std::string& path);
io::Json describe_adapter(const std::string& path);
io::Json describe_safetensors(const std::string& path);
io::Json describe_gguf(const std::string& path);

}  // namespace phi3tune::commands
