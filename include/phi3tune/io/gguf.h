// GGUF version 3, the file format of llama.cpp: read strictly, and written.
//
// Little-endian: "GGUF", u32 version, u64 tensors, u64 keys; keys (name, u32 type, value); tensors (name, u32 number of
// dimensions, u64 dimensions with the fastest first, u32 type, u64 offset); the data, from the next multiple of the
// alignment (32, or general.alignment), every tensor at one. A text is a u64 length and its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "phi3tune/io/json.h"
#include "phi3tune/io/mapped_file.h"

namespace phi3tune::io {

// Numbers of ggml's types.
enum class GgmlType : uint32_t { kF32 = 0, kF16 = 1, kBF16 = 30 };
std::string ggml_type_name(uint32_t type);  // "F32", "Q4_K", "type 99"

struct GgufTensor {
  std::string name;
  uint32_t type = 0;
  std::vector<int64_t> dims;  // fastest first: those of a row-major matrix [rows, cols] are cols, rows
  size_t begin = 0;           // bytes, in the file
  size_t end = 0;
};

struct GgufKey {
  std::string name;
  Json value;          // of an array: its first values
  uint64_t count = 0;  // of an array: its length
  bool is_array = false;
};

// A checked, mapped file.
class GgufFile {
 public:
  // Throws ModelError: "<path>: <what is broken, found, wanted>". Every length is held against the file before anything
  // is allocated; names are unique; tensors lie inside the file, aligned, and none over another.
  static GgufFile open(const std::string& path);

  const std::string& path() const noexcept { return file_.path(); }
  const std::vector<GgufKey>& keys() const noexcept { return keys_; }
  const std::vector<GgufTensor>& tensors() const noexcept { return tensors_; }
  const GgufKey* find_key(std::string_view name) const noexcept;
  const GgufTensor* find_tensor(std::string_view name) const noexcept;
  std::span<const std::byte> data(const GgufTensor& tensor) const noexcept;

 private:
  explicit GgufFile(MappedFile file) : file_(std::move(file)) {}
  MappedFile file_;
  std::vector<GgufKey> keys_;
  std::vector<GgufTensor> tensors_;
};

using GgufValue = std::variant<std::string, uint32_t, float>;

struct GgufTensorToWrite {
  std::string name;
  GgmlType type{};
  std::vector<int64_t> dims;  // fastest first
  std::span<const std::byte> data;
};

// Durable: written beside, fsynced, renamed. Nothing may be at `path`: the caller has looked. Throws ResourceError
// (disk) or InternalError (dimensions and bytes disagree).
void write_gguf(const std::string& path, const std::vector<std::pair<std::string, GgufValue>>& keys,
                const std::vector<GgufTensorToWrite>& tensors);

}  // namespace phi3tune::io
