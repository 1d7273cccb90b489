#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "gguf_types.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/gguf.h"

namespace phi3tune::io {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers of the file are read as they lie");

constexpr uint32_t kVersion = 3;
constexpr size_t kLongestName = 65535;
constexpr size_t kMostDimensions = 4;
constexpr size_t kShown = 16;  // values of an array that are kept
constexpr int kDeepest = 4;    // arrays in arrays
constexpr uint64_t kAlignment = 32;

enum class ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kText, kArray, kU64, kI64, kF64 };

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw ModelError("{}: {}", path_, fmt::format(format, std::forward<Args>(args)...));
  }

  size_t place() const noexcept { return at_; }
  size_t left() const noexcept { return bytes_.size() - at_; }

  template <typename T>
  T number(const char* what) {
    need(sizeof(T), what);
    T value{};
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  std::string text(const char* what, size_t longest) {
    const auto length = number<uint64_t>(what);
    if (length > longest) {
      fail("{}: a text of {} bytes, wanted at most {}", what, length, longest);
    }
    need(length, what);
    std::string value(reinterpret_cast<const char*>(bytes_.data() + at_), length);
    at_ += length;
    return value;
  }

 private:
  void need(uint64_t count, const char* what) const {
    if (count > left()) {
      fail("{}: the file ends at byte {}, and {} more are wanted; is it complete?", what, bytes_.size(),
           count - left());
    }
  }
  std::span<const std::byte> bytes_;
  const std::string& path_;
  size_t at_ = 0;
};

Json text_value(std::string text) {
  return find_invalid_utf8(text) == std::string::npos ? Json(std::move(text)) : Json(one_line(text));
}

void read_array(Reader& reader, const std::string& name, int depth, GgufKey& key);

Json read_value(Reader& reader, ValueType type, const std::string& name, int depth, GgufKey& key) {
  constexpr const char* kWhat = "a key's value";
  switch (type) {
    case ValueType::kU8:
      return reader.number<uint8_t>(kWhat);
    case ValueType::kI8:
      return reader.number<int8_t>(kWhat);
    case ValueType::kU16:
      return reader.number<uint16_t>(kWhat);
    case ValueType::kI16:
      return reader.number<int16_t>(kWhat);
    case ValueType::kU32:
      return reader.number<uint32_t>(kWhat);
    case ValueType::kI32:
      return reader.number<int32_t>(kWhat);
    case ValueType::kF32:
      return reader.number<float>(kWhat);
    case ValueType::kBool:
      return reader.number<uint8_t>(kWhat) != 0;
    case ValueType::kText:
      return text_value(reader.text(kWhat, reader.left()));
    case ValueType::kU64:
      return reader.number<uint64_t>(kWhat);
    case ValueType::kI64:
      return reader.number<int64_t>(kWhat);
    case ValueType::kF64:
      return reader.number<double>(kWhat);
    case ValueType::kArray: {
      GgufKey inner;
      read_array(reader, name, depth + 1, inner);
      key.is_array = depth == 0;
      key.count = inner.count;
      return inner.value;
    }
  }
  reader.fail("key {}: a value of type {}, wanted 0 to 12", one_line(name), static_cast<uint32_t>(type));
}

void read_array(Reader& reader, const std::string& name, int depth, GgufKey& key) {
  const auto type = static_cast<ValueType>(reader.number<uint32_t>("an array's type"));
  key.count = reader.number<uint64_t>("an array's length");
  if (key.count > reader.left()) {
    reader.fail("key {}: an array of {} values, and {} bytes are left", one_line(name), key.count, reader.left());
  }
  if (depth > kDeepest) {
    reader.fail("key {}: arrays in arrays, more than {} deep", one_line(name), kDeepest);
  }
  key.value = Json::array();
  GgufKey unused;
  for (uint64_t i = 0; i < key.count; ++i) {
    auto value = read_value(reader, type, name, depth, unused);
    if (key.value.size() < kShown) {
      key.value.push_back(std::move(value));
    }
  }
}

uint64_t aligned(uint64_t value, uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

GgufTensor read_tensor(Reader& reader) {
  GgufTensor tensor;
  tensor.name = reader.text("a tensor's name", kLongestName);
  const auto dimensions = reader.number<uint32_t>("a tensor's number of dimensions");
  if (dimensions > kMostDimensions) {
    reader.fail("tensor {}: {} dimensions, wanted at most {}", one_line(tensor.name), dimensions, kMostDimensions);
  }
  int64_t values = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = reader.number<uint64_t>("a tensor's dimension");
    if (size > INT64_MAX || __builtin_mul_overflow(values, static_cast<int64_t>(size), &values)) {
      reader.fail("tensor {}: impossible dimensions", one_line(tensor.name));
    }
    tensor.dims.push_back(static_cast<int64_t>(size));
  }
  tensor.type = reader.number<uint32_t>("a tensor's type");
  const auto* type = find_ggml_type(tensor.type);
  if (type == nullptr) {
    reader.fail("tensor {}: ggml has no {} that is known here", one_line(tensor.name), ggml_type_name(tensor.type));
  }
  const int64_t row = tensor.dims.empty() ? 1 : tensor.dims.front();
  int64_t bytes = 0;
  if (row % type->block != 0 || __builtin_mul_overflow(values / type->block, type->bytes, &bytes)) {
    reader.fail("tensor {}: rows of {} values, wanted a multiple of {} for {}", one_line(tensor.name), row, type->block,
                type->name);
  }
  tensor.begin = reader.number<uint64_t>("a tensor's offset");
  if (__builtin_add_overflow(tensor.begin, static_cast<size_t>(bytes), &tensor.end)) {
    reader.fail("tensor {}: impossible offset {}", one_line(tensor.name), tensor.begin);
  }
  return tensor;
}

// From offsets in the data to places in the file.
void place_tensors(const Reader& reader, std::vector<GgufTensor>& tensors, uint64_t alignment, uint64_t file_size) {
  const uint64_t start = aligned(reader.place(), alignment);
  std::vector<const GgufTensor*> sorted;
  for (auto& tensor : tensors) {
    if (tensor.begin % alignment != 0) {
      reader.fail("tensor {}: offset {}, wanted a multiple of {}", one_line(tensor.name), tensor.begin, alignment);
    }
    if (start > file_size || tensor.end > file_size - start) {
      reader.fail("tensor {}: ends at byte {}, and the file has {}; is it complete?", one_line(tensor.name),
                  start + tensor.end, file_size);
    }
    tensor.begin += start;
    tensor.end += start;
    sorted.push_back(&tensor);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const auto* a, const auto* b) { return std::pair(a->begin, a->end) < std::pair(b->begin, b->end); });
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i]->begin < sorted[i - 1]->end) {
      reader.fail("tensors {} and {} lie over each other", one_line(sorted[i - 1]->name), one_line(sorted[i]->name));
    }
  }
}

}  // namespace

GgufFile GgufFile::open(const std::string& path) {
  GgufFile gguf(MappedFile::open(path));
  const auto bytes = gguf.file_.bytes();
  Reader reader(bytes, gguf.path());
  if (bytes.size() < 4 || std::memcmp(bytes.data(), "GGUF", 4) != 0) {
    reader.fail("does not begin with \"GGUF\"; wanted a GGUF file");
  }
  (void)reader.number<uint32_t>("the start");
  if (const auto version = reader.number<uint32_t>("the version"); version != kVersion) {
    reader.fail("GGUF version {}, wanted {}", version, kVersion);
  }
  const auto tensors = reader.number<uint64_t>("the number of tensors");
  const auto keys = reader.number<uint64_t>("the number of keys");
  std::set<std::string, std::less<>> names;
  uint64_t alignment = kAlignment;
  for (uint64_t i = 0; i < keys; ++i) {
    GgufKey key;
    key.name = reader.text("a key's name", kLongestName);
    if (!names.insert(key.name).second) {
      reader.fail("key {} is there twice", one_line(key.name));
    }
    const auto type = static_cast<ValueType>(reader.number<uint32_t>("a key's type"));
    key.value = read_value(reader, type, key.name, 0, key);
    if (key.name == "general.alignment") {
      if (!key.value.is_number_unsigned() || key.value == 0 || key.value > (1 << 20)) {
        reader.fail("general.alignment: {}, wanted a number from 1 to 1048576", key.value.dump());
      }
      alignment = key.value.get<uint64_t>();
    }
    gguf.keys_.push_back(std::move(key));
  }
  names.clear();
  for (uint64_t i = 0; i < tensors; ++i) {
    gguf.tensors_.push_back(read_tensor(reader));
    if (!names.insert(gguf.tensors_.back().name).second) {
      reader.fail("tensor {} is there twice", one_line(gguf.tensors_.back().name));
    }
  }
  place_tensors(reader, gguf.tensors_, alignment, bytes.size());
  return gguf;
}

const GgufKey* GgufFile::find_key(std::string_view name) const noexcept {
  const auto found = std::find_if(keys_.begin(), keys_.end(), [&](const auto& key) { return key.name == name; });
  return found == keys_.end() ? nullptr : &*found;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const noexcept {
  const auto found =
      std::find_if(tensors_.begin(), tensors_.end(), [&](const auto& tensor) { return tensor.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

std::span<const std::byte> GgufFile::data(const GgufTensor& tensor) const noexcept {
  return file_.bytes().subspan(tensor.begin, tensor.end - tensor.begin);
}

}  // namespace phi3tune::io
