// Dtypes of files that are written, as a person names them.
#pragma once

#include <optional>
#include <string>

#include "phi3tune/core/error.h"
#include "phi3tune/io/safetensors.h"

namespace phi3tune::commands {

// Nothing for "auto". Throws ConfigError.
inline std::optional<io::DType> output_dtype(const std::string& name) {
  if (name == "auto") {
    return std::nullopt;
  }
  if (const auto dtype = io::dtype_of_torch_name(name)) {
    return dtype;
  }
  throw ConfigError("--dtype {}: wanted auto, float32, bfloat16 or float16", name);
}

}  // namespace phi3tune::commands
