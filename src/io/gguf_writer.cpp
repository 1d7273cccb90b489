#include <cstring>

#include "gguf_types.h"
#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/gguf.h"

namespace phi3tune::io {
namespace {

constexpr uint64_t kAlignment = 32;
constexpr uint32_t kTextType = 8;
constexpr uint32_t kU32Type = 4;
constexpr uint32_t kF32Type = 6;

template <typename T>
void append(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof value);
}

void append_text(std::string& out, std::string_view text) {
  append<uint64_t>(out, text.size());
  out += text;
}

size_t padding(uint64_t bytes) { return static_cast<size_t>((kAlignment - bytes % kAlignment) % kAlignment); }

void append_value(std::string& out, const GgufValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    append(out, kTextType);
    append_text(out, *text);
  } else if (const auto* number = std::get_if<uint32_t>(&value)) {
    append(out, kU32Type);
    append(out, *number);
  } else {
    append(out, kF32Type);
    append(out, std::get<float>(value));
  }
}

size_t bytes_of(const GgufTensorToWrite& tensor) {
  const auto* type = find_ggml_type(static_cast<uint32_t>(tensor.type));
  int64_t values = 1;
  for (const int64_t size : tensor.dims) {
    values *= size;
  }
  return static_cast<size_t>(values * type->bytes);
}

}  // namespace

void write_gguf(const std::string& path, const std::vector<std::pair<std::string, GgufValue>>& keys,
                const std::vector<GgufTensorToWrite>& tensors) {
  std::string head = "GGUF";
  append<uint32_t>(head, 3);
  append<uint64_t>(head, tensors.size());
  append<uint64_t>(head, keys.size());
  for (const auto& [name, value] : keys) {
    append_text(head, name);
    append_value(head, value);
  }
  uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    if (bytes_of(tensor) != tensor.data.size()) {
      throw InternalError("internal error: tensor {} is written with {} bytes, its dimensions need {}", tensor.name,
                          tensor.data.size(), bytes_of(tensor));
    }
    append_text(head, tensor.name);
    append(head, static_cast<uint32_t>(tensor.dims.size()));
    for (const int64_t size : tensor.dims) {
      append(head, static_cast<uint64_t>(size));
    }
    append(head, static_cast<uint32_t>(tensor.type));
    append(head, offset);
    offset += tensor.data.size() + padding(tensor.data.size());
  }
  head.append(padding(head.size()), '\0');
  AtomicFile file(path);
  file.write(head);
  for (const auto& tensor : tensors) {
    file.write(tensor.data);
    file.write(std::string(padding(tensor.data.size()), '\0'));
  }
  file.commit();
}

}  // namespace phi3tune::io
