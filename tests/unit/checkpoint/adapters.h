// Adapter folders made for a test, module by module.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/json.h"
#include "phi3tune/io/safetensors.h"
#include "phi3tune/phi3/adapter_config.h"

namespace phi3tune::test {

struct Pair {
  at::Tensor a, b;
  at::Tensor magnitude = {};
};

inline io::DType file_dtype(at::ScalarType dtype) {
  return dtype == at::kFloat ? io::DType::kF32 : dtype == at::kHalf ? io::DType::kF16 : io::DType::kBF16;
}

// `config`: what differs from a plain one, as JSON.
inline std::string write_adapter(const std::string& folder, const std::map<std::string, Pair>& modules,
                                 const std::string& config,
                                 const std::map<std::string, std::string>& metadata = {{"format", "pt"}},
                                 const std::map<std::string, at::Tensor>& whole = {}) {
  io::make_directories(folder);
  io::write_file_atomically(folder + "/adapter_config.json", config);
  std::vector<io::TensorToWrite> tensors;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    tensors.push_back({name,
                       file_dtype(tensor.scalar_type()),
                       tensor.sizes().vec(),
                       {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}});
  };
  for (const auto& [path, pair] : modules) {
    add(phi3::lora_tensor_name(path, 'A'), pair.a);
    add(phi3::lora_tensor_name(path, 'B'), pair.b);
    if (pair.magnitude.defined()) {
      add(phi3::magnitude_tensor_name(path), pair.magnitude);
    }
  }
  for (const auto& [name, tensor] : whole) {
    add(name, tensor);
  }
  io::write_safetensors(folder + "/adapter_model.safetensors", std::move(tensors), metadata);
  return folder;
}

}  // namespace phi3tune::test
