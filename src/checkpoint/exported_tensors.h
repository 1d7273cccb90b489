// The pairs of an adapter in the dtype and under the names of a file for others.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "checkpoint/adapter_tensors.h"
#include "phi3tune/phi3/adapter_config.h"

namespace phi3tune::checkpoint {

struct ExportedModule {
  std::string path;  // as PEFT names it
  int64_t rank = 0;
  double scale = 0.0;
  at::Tensor a, b;       // [rank, in], [out, rank], float32
  at::Tensor magnitude;  // [out]; undefined without DoRA
};

// Rounded to `dtype`, contiguous. Throws NumericsError naming `name` when a value is not finite then.
at::Tensor rounded(const at::Tensor& tensor, io::DType dtype, const std::string& name);

// llama.cpp's adapter (convert_lora_to_gguf.py and llama_adapter_lora_init of llama.cpp). It scales every pair by
// alpha / rank with one alpha for the file, so that B takes what a module's own scale differs by.
void write_gguf_adapter(const std::string& path, const std::vector<ExportedModule>& modules, io::DType dtype,
                        const std::string& name, std::vector<std::string>& notes);

}  // namespace phi3tune::checkpoint
