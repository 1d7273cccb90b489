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
  if (name == "float32") {
    return io::DType::kF32;
  }
  if (name == "bfloat16") {
    return io::DType::kBF16;
  }
  if (name == "float16") {
    return io::DType::kF16;
  }
  throw ConfigError("--dtype {}: wanted auto, float32, bfloat16 or float16", name);
}

inline const char* dtype_text(io::DType dtype) {
  return dtype == io::DType::kF32 ? "float32" : dtype == io::DType::kF16 ? "float16" : "bfloat16";
}

}  // namespace phi3tune::commands
