#include <algorithm>
#include <numeric>
#include <set>

#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/json.h"
#include "phi3tune/io/safetensors.h"

namespace phi3tune::io {
namespace {

size_t byte_size(const TensorToWrite& tensor) {
  size_t bytes = dtype_size(tensor.dtype);
  for (const int64_t size : tensor.shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes)) {
      throw InternalError("internal error: tensor {} is written with an impossible shape", tensor.name);
    }
  }
  return bytes;
}

std::string length_prefix(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes += static_cast<char>((length >> (8 * i)) & 0xFF);
  }
  return bytes;
}

}  // namespace

SafetensorsLayout layout_safetensors(const std::vector<TensorToWrite>& tensors,
                                     const std::map<std::string, std::string>& metadata) {
  SafetensorsLayout layout;
  layout.order.resize(tensors.size());
  std::iota(layout.order.begin(), layout.order.end(), size_t{0});
  std::sort(layout.order.begin(), layout.order.end(), [&](size_t a, size_t b) {
    return tensors[a].dtype != tensors[b].dtype ? tensors[a].dtype > tensors[b].dtype
                                                : tensors[a].name < tensors[b].name;
  });
  // Text by hand: a tree of hundreds of thousands of keys would look each one up in all before it.
  std::string json = "{";
  if (!metadata.empty()) {
    Json object = Json::object();
    for (const auto& [key, value] : metadata) {
      object[key] = value;
    }
    json += "\"__metadata__\":" + object.dump();
  }
  std::set<std::string_view> names{"__metadata__"};
  size_t offset = 0;
  for (const size_t index : layout.order) {
    const auto& tensor = tensors[index];
    if (!names.insert(tensor.name).second) {
      throw InternalError("internal error: tensor {} is written twice", tensor.name);
    }
    const size_t end = offset + byte_size(tensor);
    json += json.size() > 1 ? "," : "";
    json += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}", Json(tensor.name).dump(),
                        dtype_name(tensor.dtype), Json(tensor.shape).dump(), offset, end);
    offset = end;
  }
  json += "}";
  json.append((8 - json.size() % 8) % 8, ' ');
  layout.header = length_prefix(json.size()) + json;
  return layout;
}

void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata, AtomicFile::Mode mode) {
  for (const auto& tensor : tensors) {
    if (byte_size(tensor) != tensor.data.size()) {
      throw InternalError("internal error: tensor {} is written with {} bytes, its shape needs {}", tensor.name,
                          tensor.data.size(), byte_size(tensor));
    }
  }
  const auto layout = layout_safetensors(tensors, metadata);
  AtomicFile file(path, mode);
  file.write(layout.header);
  for (const size_t index : layout.order) {
    file.write(tensors[index].data);
  }
  file.commit();
}

}  // namespace phi3tune::io
