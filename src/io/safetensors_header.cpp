// Reading: the rules of the format, checked one after another.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/json_members.h"
#include "phi3tune/io/safetensors.h"

namespace phi3tune::io {
namespace {

struct DTypeFacts {
  std::string_view name;
  size_t size;
};

// In the order of DType, which is the reference writer's order of alignment.
constexpr std::array kDTypes{DTypeFacts{"BOOL", 1},    DTypeFacts{"U8", 1},      DTypeFacts{"I8", 1},
                             DTypeFacts{"F8_E5M2", 1}, DTypeFacts{"F8_E4M3", 1}, DTypeFacts{"I16", 2},
                             DTypeFacts{"U16", 2},     DTypeFacts{"F16", 2},     DTypeFacts{"BF16", 2},
                             DTypeFacts{"I32", 4},     DTypeFacts{"U32", 4},     DTypeFacts{"F32", 4},
                             DTypeFacts{"F64", 8},     DTypeFacts{"I64", 8},     DTypeFacts{"U64", 8}};

constexpr uint64_t kPrefixBytes = 8;
constexpr uint64_t kLargestHeader = 100'000'000;  // the reference reader's limit
constexpr size_t kHeaderDepth = 3;                // object, tensor, shape
// No model has nearly as many in one file; empty tensors cost no data, so the file's size does not bound their number.
constexpr size_t kMostTensors = 200'000;
constexpr size_t kLongestToken = size_t{16} << 20;  // a text of the metadata; the reference reader has no limit
constexpr size_t kLongestName = 4096;

std::optional<DType> dtype_of(std::string_view name) {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (kDTypes[i].name == name) {
      return static_cast<DType>(i);
    }
  }
  return std::nullopt;
}

// A name is printed in messages and used as a key; control characters have no place in one.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName && std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7F;
  });
}

// The text as JSON would show it, cut to a length that fits a message.
std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', true);
  constexpr size_t kLongest = 60;
  if (text.size() > kLongest) {
    text = text.substr(0, kLongest) + "...";
  }
  return text;
}

class HeaderReader {
 public:
  HeaderReader(const std::string& file, uint64_t data_bytes) : file_(file), data_bytes_(data_bytes) {}

  // One member of the header. Entries are checked as they come: a header that promises more than the file holds is
  // refused before it is read to its end.
  void add(const std::string& name, const Json& value) {
    if (name == "__metadata__") {
      if (std::exchange(has_metadata_, true)) {
        fail("key \"__metadata__\" is given twice");
      }
      read_metadata(value);
      return;
    }
    if (header_.tensors.size() == kMostTensors) {
      fail("more than {} tensors", kMostTensors);
    }
    header_.tensors.push_back(read_entry(name, value));
    const auto& entry = header_.tensors.back();
    promised_ += entry.end - entry.begin;
    if (promised_ > data_bytes_) {
      fail("tensor {}: up to here the tensors hold {} bytes, the file has {}; they overlap", name, promised_,
           data_bytes_);
    }
  }

  SafetensorsHeader finish() {
    check_names();
    check_ranges();
    return std::move(header_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw ModelError("{}: {}", file_, fmt::format(format, std::forward<Args>(args)...));
  }

  void read_metadata(const Json& value) {
    if (!value.is_object()) {
      fail("__metadata__ is {}, wanted an object of strings", shown(value));
    }
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) {
        fail("__metadata__ \"{}\" is {}, wanted a string", one_line(key), shown(text));
      }
      header_.metadata.emplace(key, text.get<std::string>());
    }
  }

  TensorEntry read_entry(const std::string& name, const Json& value) const {
    if (!is_plain_name(name)) {
      fail("tensor name {} is empty, longer than {} bytes or holds control characters", shown(Json(name)),
           kLongestName);
    }
    if (!value.is_object()) {
      fail("tensor {}: {}, wanted an object with dtype, shape and data_offsets", name, shown(value));
    }
    for (const auto& [key, unused] : value.items()) {
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        fail("tensor {}: key {} is not part of the format", name, shown(Json(key)));
      }
    }
    TensorEntry entry;
    entry.name = name;
    entry.dtype = read_dtype(name, member(name, value, "dtype"));
    const uint64_t bytes = read_shape(member(name, value, "shape"), entry);
    read_offsets(member(name, value, "data_offsets"), bytes, entry);
    return entry;
  }

  const Json& member(const std::string& name, const Json& value, const char* key) const {
    const auto found = value.find(key);
    if (found == value.end()) {
      fail("tensor {}: {} is missing", name, key);
    }
    return *found;
  }

  DType read_dtype(const std::string& name, const Json& value) const {
    if (!value.is_string()) {
      fail("tensor {}: dtype is {}, wanted a string", name, shown(value));
    }
    const auto dtype = dtype_of(value.get_ref<const std::string&>());
    if (!dtype) {
      fail("tensor {}: dtype {} is not one this program reads", name, shown(value));
    }
    return *dtype;
  }

  // Returns the bytes the shape asks for.
  uint64_t read_shape(const Json& value, TensorEntry& entry) const {
    if (!value.is_array()) {
      fail("tensor {}: shape is {}, wanted an array of sizes", entry.name, shown(value));
    }
    uint64_t bytes = dtype_size(entry.dtype);
    for (const auto& size : value) {
      if (!size.is_number_unsigned()) {
        fail("tensor {}: shape holds {}, wanted whole numbers from 0", entry.name, shown(size));
      }
      if (__builtin_mul_overflow(bytes, size.get<uint64_t>(), &bytes) ||
          size.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        fail("tensor {}: shape {} is larger than any file", entry.name, shown(value));
      }
      entry.shape.push_back(size.get<int64_t>());
    }
    return bytes;
  }

  void read_offsets(const Json& value, uint64_t bytes, TensorEntry& entry) const {
    if (!value.is_array() || value.size() != 2 || !value[0].is_number_unsigned() || !value[1].is_number_unsigned()) {
      fail("tensor {}: data_offsets is {}, wanted two whole numbers [begin, end)", entry.name, shown(value));
    }
    entry.begin = value[0].get<uint64_t>();
    entry.end = value[1].get<uint64_t>();
    if (entry.end < entry.begin || entry.end > data_bytes_) {
      fail(
          "tensor {}: data_offsets {} do not lie in the {} data bytes of the file (cut short, or not fully "
          "downloaded?)",
          entry.name, shown(value), data_bytes_);
    }
    if (entry.end - entry.begin != bytes) {
      fail("tensor {}: {} {} needs {} bytes, data_offsets {} hold {}", entry.name, dtype_name(entry.dtype),
           fmt::format("{}", Json(entry.shape).dump()), bytes, shown(value), entry.end - entry.begin);
    }
  }

  void check_names() const {
    std::vector<std::string_view> names;
    for (const auto& entry : header_.tensors) {
      names.push_back(entry.name);
    }
    std::sort(names.begin(), names.end());
    if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
      fail("key \"{}\" is given twice", one_line(*twice));
    }
  }

  // The data is covered once: no hole, no overlap, nothing after the last tensor.
  void check_ranges() {
    auto& tensors = header_.tensors;
    std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
      return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
    });
    size_t covered = 0;
    for (const auto& entry : tensors) {
      if (entry.begin != covered) {
        fail("tensor {}: begins at byte {}, wanted {} where the one before it ends ({})", entry.name, entry.begin,
             covered, entry.begin < covered ? "they overlap" : "a hole");
      }
      covered = entry.end;
    }
    if (covered != data_bytes_) {
      fail("{} bytes follow the last tensor; the file should end there", data_bytes_ - covered);
    }
  }

  const std::string& file_;
  uint64_t data_bytes_;
  uint64_t promised_ = 0;
  bool has_metadata_ = false;
  SafetensorsHeader header_;
};

}  // namespace

std::string_view dtype_name(DType dtype) noexcept { return kDTypes[static_cast<size_t>(dtype)].name; }

std::string_view torch_name(DType dtype) noexcept {
  return dtype == DType::kF32 ? "float32" : dtype == DType::kF16 ? "float16" : "bfloat16";
}

std::optional<DType> dtype_of_torch_name(std::string_view name) noexcept {
  for (const auto dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    if (name == torch_name(dtype)) {
      return dtype;
    }
  }
  return std::nullopt;
}

size_t dtype_size(DType dtype) noexcept { return kDTypes[static_cast<size_t>(dtype)].size; }

int64_t TensorEntry::numel() const noexcept { return static_cast<int64_t>((end - begin) / dtype_size(dtype)); }

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> start, uint64_t file_size,
                                           const std::string& name) {
  if (file_size < kPrefixBytes) {
    throw ModelError("{}: {} bytes, too short for a safetensors file (cut short, or not fully downloaded?)", name,
                     file_size);
  }
  require(start.size() >= kPrefixBytes, "a safetensors header is parsed without its length");
  uint64_t length = 0;
  for (size_t i = 0; i < kPrefixBytes; ++i) {
    length |= std::to_integer<uint64_t>(start[i]) << (8 * i);
  }
  constexpr std::string_view kLfsPointer = "version https://git-lfs";
  if (std::string_view(reinterpret_cast<const char*>(start.data()), start.size()).starts_with(kLfsPointer)) {
    throw ModelError(
        "{}: not a safetensors file but the pointer that Git LFS keeps in its place; fetch the file (git lfs pull)",
        name);
  }
  if (length > kLargestHeader) {
    throw ModelError("{}: not a safetensors file: it would have a header of {} bytes, at most {} are allowed", name,
                     length, kLargestHeader);
  }
  if (length > file_size - kPrefixBytes) {
    throw ModelError("{}: the header has {} bytes, only {} are left in the file (cut short, or not fully downloaded?)",
                     name, length, file_size - kPrefixBytes);
  }
  if (length == 0) {
    throw ModelError("{}: the header has 0 bytes, wanted a JSON object", name);
  }
  require(start.size() - kPrefixBytes >= length, "a safetensors header is parsed from a part of it");
  const std::string_view text(reinterpret_cast<const char*>(start.data()) + kPrefixBytes, length);
  if (text.front() != '{') {
    throw ModelError("{}: the header begins with byte 0x{:02x}, wanted '{{'", name,
                     static_cast<unsigned char>(text.front()));
  }
  HeaderReader reader(name, file_size - kPrefixBytes - length);
  JsonFault fault;
  if (!parse_json_members(text, [&](const std::string& key, const Json& value) { reader.add(key, value); }, fault,
                          {.depth = kHeaderDepth, .token = kLongestToken})) {
    throw ModelError("{}: header, line {}, column {}: {}", name, fault.line, fault.column, fault.what);
  }
  auto header = reader.finish();
  header.data_begin = kPrefixBytes + length;
  return header;
}

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  auto file = MappedFile::open(path);
  auto header = parse_safetensors_header(file.bytes(), file.bytes().size(), path);
  SafetensorsFile opened(std::move(file), std::move(header));
  for (size_t i = 0; i < opened.header_.tensors.size(); ++i) {
    opened.index_.emplace(opened.header_.tensors[i].name, i);
  }
  return opened;
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const noexcept {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

std::span<const std::byte> SafetensorsFile::data(const TensorEntry& entry) const noexcept {
  return file_.bytes().subspan(header_.data_begin + entry.begin, entry.end - entry.begin);
}

void SafetensorsFile::release(const TensorEntry& entry) const noexcept {
  file_.release(header_.data_begin + entry.begin, entry.end - entry.begin);
}

}  // namespace phi3tune::io
