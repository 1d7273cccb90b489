// safetensors, strictly: every rule of the format is checked against the real file size before anything is allocated.
//
// Layout: u64 little-endian header length N, N bytes of JSON, then the data; offsets are relative to the data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/mapped_file.h"

namespace phi3tune::io {

enum class DType { kBool, kU8, kI8, kF8E5M2, kF8E4M3, kI16, kU16, kF16, kBF16, kI32, kU32, kF32, kF64, kI64, kU64 };

std::string_view dtype_name(DType dtype) noexcept;  // "BF16", as the format spells it
size_t dtype_size(DType dtype) noexcept;            // bytes of one element
// As torch and config.json name those that weights have: "float32", "bfloat16", "float16".
std::string_view torch_name(DType dtype) noexcept;
std::optional<DType> dtype_of_torch_name(std::string_view name) noexcept;

struct TensorEntry {
  std::string name;
  DType dtype{};
  std::vector<int64_t> shape;  // row-major; [] is a scalar; a dimension may be 0
  size_t begin = 0;            // bytes, relative to the data
  size_t end = 0;
  int64_t numel() const noexcept;
};

// What a header says, whether or not it belongs to a file.
struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // in storage order
  std::map<std::string, std::string> metadata;
  size_t data_begin = 0;  // of the data in the file: 8 + N
};

// Checks all rules for a file of `file_size` bytes that starts with `start` (at least the header). Throws ModelError:
// "<name>: <rule broken, found, wanted>".
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> start, uint64_t file_size,
                                           const std::string& name);

// A checked, mapped file.
class SafetensorsFile {
 public:
  // Throws ModelError.
  static SafetensorsFile open(const std::string& path);

  const SafetensorsHeader& header() const noexcept { return header_; }
  const std::string& path() const noexcept { return file_.path(); }
  const TensorEntry* find(std::string_view name) const noexcept;
  // Bytes of a tensor inside the mapping. They may be unaligned when the header length is odd: copy, do not cast,
  // unless is_aligned says so.
  std::span<const std::byte> data(const TensorEntry& entry) const noexcept;
  // The whole file, header included.
  std::span<const std::byte> bytes() const noexcept { return file_.bytes(); }
  // Gives the mapped pages of a tensor back to the system; its bytes stay readable.
  void release(const TensorEntry& entry) const noexcept;

 private:
  SafetensorsFile(MappedFile file, SafetensorsHeader header) : file_(std::move(file)), header_(std::move(header)) {}
  MappedFile file_;
  SafetensorsHeader header_;
  std::map<std::string, size_t, std::less<>> index_;
};

struct TensorToWrite {
  std::string name;
  DType dtype{};
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

// Order and padding of the reference writer: by dtype alignment descending, then by name bytewise; header padded with
// spaces to a multiple of 8; metadata {"format": "pt"} unless given. Durable: written beside, fsynced, renamed, parent
// fsynced. Throws ResourceError (disk) or InternalError (shape and bytes disagree).
void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}},
                       AtomicFile::Mode mode = AtomicFile::Mode::kReplace);

// The header bytes (length prefix included) that write_safetensors would write, and the order of the data: for writers
// that stream.
struct SafetensorsLayout {
  std::string header;
  std::vector<size_t> order;  // indices into the given tensors, in storage order
};
SafetensorsLayout layout_safetensors(const std::vector<TensorToWrite>& tensors,
                                     const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace phi3tune::io
