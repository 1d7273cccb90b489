#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "unit/quant/nf4_support.h"

namespace phi3tune::quant {
namespace {

constexpr FloatType kTypes[] = {FloatType::kF32, FloatType::kBF16, FloatType::kF16};

// Restores the choice of instruction set.
class IsaGuard {
 public:
  ~IsaGuard() { force_dequantize_isa(before_); }

 private:
  const char* before_ = dequantize_isa();
};

constexpr std::byte kGuard{0xA5};
constexpr size_t kMargin = 64;

// Bytes of [begin, end), written at an odd address; nothing outside may be touched.
std::vector<std::byte> dequantize(const Nf4Tensor& tensor, int64_t begin, int64_t end, FloatType target) {
  const size_t size = static_cast<size_t>(end - begin) * width_of(target);
  std::vector<std::byte> buffer(size + 2 * kMargin + 1, kGuard);
  std::byte* out = buffer.data() + kMargin + 1;
  dequantize_nf4(tensor, begin, end, target, out);
  EXPECT_TRUE(std::all_of(buffer.data(), out, [](std::byte b) { return b == kGuard; }));
  EXPECT_TRUE(std::all_of(out + size, buffer.data() + buffer.size(), [](std::byte b) { return b == kGuard; }));
  return {out, out + size};
}

struct Shape {
  int64_t rows;
  int64_t cols;
  int64_t block;
};

constexpr Shape kShapes[] = {{64, 64, 64},    {3, 100, 64},  {5, 13, 64},   {1, 1, 64},
                             {7, 32, 32},     {33, 65, 128}, {9, 511, 64},  {300, 64, 256},
                             {5, 4096, 4096}, {257, 64, 64}, {600, 64, 32}, {520, 128, 128}};

class EveryIsa : public testing::TestWithParam<std::tuple<const char*, FloatType, FloatType>> {};

TEST_P(EveryIsa, EqualsPortableToTheBit) {
  const auto [name, source, target] = GetParam();
  const IsaGuard guard;
  uint32_t seed = 1;
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.rows << " x " << shape.cols << ", blocks of " << shape.block);
    const auto weights = as_bytes(some_weights(shape.rows * shape.cols, seed++), source);
    for (const bool nested : {true, false}) {
      const Nf4Tensor tensor =
          quantize_nf4(weights, source, shape.rows, shape.cols, {.block_size = shape.block, .double_quant = nested});
      ASSERT_TRUE(force_dequantize_isa("portable"));
      const auto wanted = dequantize(tensor, 0, tensor.numel(), target);
      if (!force_dequantize_isa(name)) {
        GTEST_SKIP() << "this processor has no " << name;
      }
      EXPECT_STREQ(dequantize_isa(), name);
      EXPECT_TRUE(dequantize(tensor, 0, tensor.numel(), target) == wanted);
    }
  }
}

// Subnormal and huge results, infinities and NaN, as a damaged file could ask for.
TEST_P(EveryIsa, EqualsPortableOnExtremeScales) {
  const auto [name, source, target] = GetParam();
  const IsaGuard guard;
  constexpr float kScales[] = {0.0F,     1e-45F,    3e-42F,      1.1e-38F,   6e-8F,         3.1e-5F,  6.2e-5F,
                               65519.0F, 65520.0F,  1e5F,        3.3895e38F, 3.4028234e38F, INFINITY, NAN,
                               -1.0F,    -INFINITY, 1.00390625F, 1.0039F,    1.001F,        0.333333F};
  constexpr int64_t kBlocks = std::size(kScales);
  Nf4Tensor tensor;
  tensor.rows = kBlocks;
  tensor.cols = 64;
  tensor.source = source;
  tensor.double_quant = false;
  tensor.code = kNf4Code;
  tensor.absmax.assign(std::begin(kScales), std::end(kScales));
  for (int64_t i = 0; i < kBlocks * 32; ++i) {
    tensor.packed.push_back(static_cast<uint8_t>(i * 37 + i / 16));
  }
  ASSERT_TRUE(force_dequantize_isa("portable"));
  const auto wanted = dequantize(tensor, 0, tensor.numel(), target);
  if (!force_dequantize_isa(name)) {
    GTEST_SKIP() << "this processor has no " << name;
  }
  EXPECT_TRUE(dequantize(tensor, 0, tensor.numel(), target) == wanted);
}

std::string type_name(FloatType type) {
  return type == FloatType::kF32 ? "F32" : type == FloatType::kBF16 ? "BF16" : "F16";
}

INSTANTIATE_TEST_SUITE_P(Nf4, EveryIsa,
                         testing::Combine(testing::Values("avx512", "avx2"), testing::ValuesIn(kTypes),
                                          testing::ValuesIn(kTypes)),
                         [](const auto& parameters) {
                           return std::string(std::get<0>(parameters.param)) + "From" +
                                  type_name(std::get<1>(parameters.param)) + "To" +
                                  type_name(std::get<2>(parameters.param));
                         });

// The definition, in fp64 and with the processor's own conversions where there are some: an element is
// round_to_source(code * absmax).
TEST(Nf4Dequantize, ValueIsCodeTimesAbsmaxRoundedToTheSource) {
  const IsaGuard guard;
  const int64_t rows = 400;
  const int64_t cols = 96;
  const auto weights = as_bytes(some_weights(rows * cols, 7), FloatType::kBF16);
  for (const int64_t block_size : {32, 64, 128}) {  // 1200, 600 and 300 blocks
    const Nf4Tensor tensor = quantize_nf4(weights, FloatType::kBF16, rows, cols, {.block_size = block_size});
    const auto absmax = restored_absmax(tensor);
    for (const char* isa : {"avx512", "avx2", "portable"}) {
      if (!force_dequantize_isa(isa)) {
        continue;
      }
      const auto bytes = dequantize(tensor, 0, tensor.numel(), FloatType::kF32);
      for (int64_t i = 0; i < tensor.numel(); ++i) {
        const uint8_t byte = tensor.packed[static_cast<size_t>(i / 2)];
        const int code = i % 2 == 0 ? byte >> 4 : byte & 15;
        const float product = kNf4Code[static_cast<size_t>(code)] * absmax[static_cast<size_t>(i / block_size)];
        // Nearest bf16 value, ties to even, by fp64 arithmetic on the spacing of bf16 numbers.
        int exponent = 0;
        std::frexp(product, &exponent);
        const double spacing = std::ldexp(1.0, exponent - 8);
        const double wanted = std::nearbyint(static_cast<double>(product) / spacing) * spacing;
        float got = 0;
        std::memcpy(&got, bytes.data() + 4 * i, 4);
        ASSERT_EQ(static_cast<double>(got), wanted) << isa << " element " << i << ", blocks of " << block_size;
      }
    }
  }
}

TEST(Nf4Dequantize, PartsMakeTheWhole) {
  const Nf4Tensor tensor =
      quantize_nf4(as_bytes(some_weights(50'021, 3), FloatType::kBF16), FloatType::kBF16, 1, 50'021, {});
  const auto whole = dequantize(tensor, 0, tensor.numel(), FloatType::kBF16);
  std::vector<std::byte> parts;
  for (int64_t begin = 0; begin < tensor.numel(); begin += 64 * 259) {
    const auto part = dequantize(tensor, begin, std::min(begin + 64 * 259, tensor.numel()), FloatType::kBF16);
    parts.insert(parts.end(), part.begin(), part.end());
  }
  EXPECT_TRUE(parts == whole);
  EXPECT_TRUE(dequantize(tensor, 0, 0, FloatType::kBF16).empty());
}

// Outputs of many megabytes at an aligned address are written past the caches.
TEST_P(EveryIsa, LargeAlignedOutputEqualsTheUnaligned) {
  const auto [name, source, target] = GetParam();
  const IsaGuard guard;
  const int64_t rows = 1025;
  const int64_t cols = 2048;
  static const std::vector<float> kWeights = some_weights(rows * cols, 21);
  const Nf4Tensor tensor = quantize_nf4(as_bytes(kWeights, source), source, rows, cols, {});
  if (!force_dequantize_isa(name)) {
    GTEST_SKIP() << "this processor has no " << name;
  }
  const auto wanted = dequantize(tensor, 0, tensor.numel(), target);
  std::vector<std::byte> buffer(wanted.size() + 192, kGuard);
  auto* out = buffer.data() + 64 + (64 - reinterpret_cast<uintptr_t>(buffer.data()) % 64) % 64;
  dequantize_nf4(tensor, 0, tensor.numel(), target, out);
  EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), out));
  EXPECT_EQ(out[-1], kGuard);
  EXPECT_EQ(out[wanted.size()], kGuard);
}

TEST(Nf4Dequantize, DoubleOutputHoldsTheSourceValuesExactly) {
  for (const FloatType source : kTypes) {
    const Nf4Tensor tensor = quantize_nf4(as_bytes(some_weights(3 * 77, 9), source), source, 3, 77, {});
    const auto bytes = dequantize(tensor, 64, tensor.numel(), FloatType::kF32);
    std::vector<double> values(static_cast<size_t>(tensor.numel() - 64));
    dequantize_nf4_f64(tensor, 64, tensor.numel(), values.data());
    for (size_t i = 0; i < values.size(); ++i) {
      float single = 0;
      std::memcpy(&single, bytes.data() + 4 * i, 4);
      ASSERT_EQ(values[i], static_cast<double>(single));
    }
  }
}

TEST(Nf4Dequantize, RangesThatCutABlockAreOurBug) {
  const Nf4Tensor tensor = quantize_nf4(as_bytes(some_weights(200, 1), FloatType::kF32), FloatType::kF32, 2, 100, {});
  float out[200];
  EXPECT_THROW(dequantize_nf4(tensor, 1, 64, FloatType::kF32, out), InternalError);
  EXPECT_THROW(dequantize_nf4(tensor, 0, 65, FloatType::kF32, out), InternalError);
  EXPECT_THROW(dequantize_nf4(tensor, 0, 264, FloatType::kF32, out), InternalError);
  EXPECT_THROW(dequantize_nf4(tensor, -64, 64, FloatType::kF32, out), InternalError);
}

TEST(Nf4Dequantize, UnknownInstructionSetIsRefused) {
  const std::string before = dequantize_isa();
  EXPECT_FALSE(force_dequantize_isa("avx1024"));
  EXPECT_EQ(dequantize_isa(), before);
}

}  // namespace
}  // namespace phi3tune::quant
