// Reading committed references.
#pragma once

#include <ATen/ATen.h>

#include <cstring>
#include <map>
#include <string>

#include "phi3tune/io/safetensors.h"

namespace phi3tune::test {

inline at::ScalarType aten_type(io::DType dtype) {
  switch (dtype) {
    case io::DType::kF64:
      return at::kDouble;
    case io::DType::kF32:
      return at::kFloat;
    case io::DType::kBF16:
      return at::kBFloat16;
    case io::DType::kF16:
      return at::kHalf;
    case io::DType::kI64:
      return at::kLong;
    case io::DType::kI32:
      return at::kInt;
    default:
      return at::kByte;
  }
}

// Every tensor of a safetensors file, copied.
inline std::map<std::string, at::Tensor> read_tensors(const std::string& path) {
  const auto file = io::SafetensorsFile::open(path);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& entry : file.header().tensors) {
    auto tensor = at::empty(entry.shape, at::dtype(aten_type(entry.dtype)));
    const auto bytes = file.data(entry);
    std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
    tensors.emplace(entry.name, tensor);
  }
  return tensors;
}

}  // namespace phi3tune::test
