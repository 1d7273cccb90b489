// An adapter as other programs read it. Only config.json of the base is needed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "phi3tune/io/safetensors.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::checkpoint {

enum class ExportFormat {
  kPeftFused,  // PEFT over Phi-3's own linears
  // PEFT over a Llama layout: q, k, v, gate and up apart, B cut by rows; exact. A is shared, or, where B is
  // block-diagonal as after an import of such parts, each has the rows of A that its block uses.
  kPeftSplit,
  kGguf  // llama.cpp's adapter file
};

struct ExportOptions {
  ExportFormat format{};
  std::string out;                    // a folder; with kGguf a file
  io::DType dtype = io::DType::kF32;  // kGguf: F32 or F16
};

struct ExportReport {
  std::string out;
  std::vector<std::string> files;  // sorted; of a folder
  size_t modules = 0;
  std::vector<std::string> notes;
};

// Throws ConfigError (out is there already or lies in the adapter; a dtype the format has not), CheckpointError (the
// adapter is damaged, or not for such a base, or the format cannot say what it is), NumericsError (a value is not
// finite in the dtype), ResourceError. Nothing is left behind then.
ExportReport export_adapter(const phi3::ModelConfig& base, const std::string& adapter, const ExportOptions& options);

}  // namespace phi3tune::checkpoint
