// Inputs of the NF4 tests: tensors of a safetensors file, and weights made from a seed.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/io/safetensors.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::quant {

inline size_t width_of(FloatType type) { return type == FloatType::kF32 ? 4 : 2; }

class ReferenceFile {
 public:
  explicit ReferenceFile(const std::string& path) : file_(io::SafetensorsFile::open(path)) {}

  const io::SafetensorsHeader& header() const { return file_.header(); }

  const io::TensorEntry& entry(const std::string& name) const {
    const io::TensorEntry* found = file_.find(name);
    require(found != nullptr, ("the reference file has " + name).c_str());
    return *found;
  }

  template <typename Element>
  std::vector<Element> read(const std::string& name) const {
    const auto bytes = file_.data(entry(name));
    std::vector<Element> values(bytes.size() / sizeof(Element));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

 private:
  io::SafetensorsFile file_;
};

inline FloatType float_type(io::DType dtype) {
  switch (dtype) {
    case io::DType::kF32:
      return FloatType::kF32;
    case io::DType::kBF16:
      return FloatType::kBF16;
    default:
      return FloatType::kF16;
  }
}

// Weights of any type from floats by cutting bits off, so that the tests do not lean on the code's own rounding.
inline std::vector<std::byte> as_bytes(const std::vector<float>& values, FloatType type) {
  std::vector<std::byte> bytes(values.size() * width_of(type));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<uint32_t>(values[i]);
    if (type == FloatType::kF32) {
      std::memcpy(bytes.data() + 4 * i, &bits, 4);
      continue;
    }
    auto word = static_cast<uint16_t>(bits >> 16);
    if (type == FloatType::kF16) {  // normal numbers only; smaller ones become zero
      const uint32_t exponent = (bits >> 23) & 0xFFU;
      const uint32_t magnitude = exponent < 113 ? 0U : ((exponent - 112) << 10) | ((bits >> 13) & 0x3FFU);
      word = static_cast<uint16_t>(((bits >> 16) & 0x8000U) | magnitude);
    }
    std::memcpy(bytes.data() + 2 * i, &word, 2);
  }
  return bytes;
}

// N(0, 0.02), with a block of zeros in the middle.
inline std::vector<float> some_weights(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = normal(random);
  }
  for (int64_t i = count / 128 * 64; i < count / 128 * 64 + 64 && i < count; ++i) {
    values[static_cast<size_t>(i)] = 0.0F;
  }
  return values;
}

}  // namespace phi3tune::quant
