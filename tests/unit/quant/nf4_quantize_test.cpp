#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "unit/quant/nf4_support.h"

namespace phi3tune::quant {
namespace {

// Code of x by the definition: the nearest value, the lower one in a tie.
int nearest_code(float x) {
  int best = 0;
  for (int i = 1; i < 16; ++i) {
    const double there = std::fabs(static_cast<double>(x) - static_cast<double>(kNf4Code[static_cast<size_t>(i)]));
    const double here = std::fabs(static_cast<double>(x) - static_cast<double>(kNf4Code[static_cast<size_t>(best)]));
    best = there < here ? i : best;
  }
  return best;
}

TEST(Nf4Quantize, EachElementGetsTheNearestValue) {
  auto values = some_weights(64 * 50, 5);
  for (size_t block = 0; block < 50; ++block) {
    values[64 * block] = 1.0F;  // absmax 1: the scaled value is the value
  }
  const Nf4Tensor tensor = quantize_nf4(as_bytes(values, FloatType::kF32), FloatType::kF32, 50, 64, {});
  for (size_t i = 0; i < values.size(); ++i) {
    const int code = i % 2 == 0 ? tensor.packed[i / 2] >> 4 : tensor.packed[i / 2] & 15;
    ASSERT_EQ(code, nearest_code(values[i])) << i << ": " << values[i];
  }
}

TEST(Nf4Quantize, ThreadsDoNotChangeAByte) {
  const int64_t rows = 700;
  const int64_t cols = 777;  // several pieces of work, and a short last block
  const auto weights = as_bytes(some_weights(rows * cols, 11), FloatType::kBF16);
  const Nf4Tensor one = quantize_nf4(weights, FloatType::kBF16, rows, cols, {}, nullptr, 1);
  for (const int threads : {0, 2, 3, 8}) {
    const Nf4Tensor many = quantize_nf4(weights, FloatType::kBF16, rows, cols, {}, nullptr, threads);
    EXPECT_TRUE(many.packed == one.packed);
    EXPECT_TRUE(many.nested_codes == one.nested_codes);
    EXPECT_EQ(many.offset, one.offset);
  }
}

TEST(Nf4Quantize, OffsetIsTheDoubleMeanInIndexOrder) {
  const auto weights = as_bytes(some_weights(64 * 1000, 2), FloatType::kF32);
  const Nf4Tensor single = quantize_nf4(weights, FloatType::kF32, 1000, 64, {.double_quant = false});
  double sum = 0.0;
  for (const float absmax : single.absmax) {
    sum += static_cast<double>(absmax);
  }
  EXPECT_EQ(quantize_nf4(weights, FloatType::kF32, 1000, 64, {}).offset, static_cast<float>(sum / 1000.0));
}

TEST(Nf4Quantize, UnalignedWeightsAreRead) {
  const auto weights = as_bytes(some_weights(640, 4), FloatType::kF32);
  std::vector<std::byte> shifted(weights.size() + 1);
  std::copy(weights.begin(), weights.end(), shifted.begin() + 1);
  const Nf4Tensor wanted = quantize_nf4(weights, FloatType::kF32, 10, 64, {});
  const Nf4Tensor got = quantize_nf4(std::span(shifted).subspan(1), FloatType::kF32, 10, 64, {});
  EXPECT_EQ(got.packed, wanted.packed);
}

TEST(Nf4Quantize, SizesAreThoseOfTheFormat) {
  const auto weights = as_bytes(some_weights(33 * 65 * 8, 4), FloatType::kBF16);
  const Nf4Tensor tensor = quantize_nf4(weights, FloatType::kBF16, 33, 65 * 8, {});
  EXPECT_EQ(tensor.packed.size(), 33U * 65 * 4);
  EXPECT_EQ(tensor.blocks(), 269);
  EXPECT_EQ(tensor.nested_codes.size(), 269U);
  EXPECT_EQ(tensor.nested_absmax.size(), 2U);
  EXPECT_EQ(tensor.bytes(), 33U * 65 * 4 + 269 + 8);
}

// bitsandbytes' search ends at an even entry, and keeps it when an absmax lies midway to its neighbour.
TEST(Nf4Quantize, NestedTiesStayAtTheEvenEntry) {
  const auto& map = signed_dynamic_map();
  std::vector<float> values(64 * 128, 0.0F);
  for (size_t block = 0; block < 127; ++block) {
    values[64 * block] = (map[127 + block] + map[128 + block]) * 0.5F;
  }
  values[size_t{64} * 127] = 1.0F;  // the largest, so that the maxima are scaled by 1
  const float offset = 0.0F;
  const Nf4Tensor tensor = quantize_nf4(as_bytes(values, FloatType::kF32), FloatType::kF32, 128, 64, {}, &offset);
  for (size_t block = 0; block < 127; ++block) {
    const size_t low = 127 + block;
    EXPECT_EQ(tensor.nested_codes[block], low + low % 2) << "between " << map[low] << " and " << map[low + 1];
  }
}

class NotFinite : public testing::TestWithParam<std::tuple<FloatType, float>> {};

TEST_P(NotFinite, WeightIsRefusedWithItsPlace) {
  const auto [type, value] = GetParam();
  auto values = some_weights(40 * 70, 8);
  values[2 * 70 + 5] = value;
  values[39 * 70 + 69] = value;
  auto weights = as_bytes(values, type);
  if (type == FloatType::kF16) {
    const uint16_t word = std::isnan(value) ? 0x7C01 : value > 0 ? 0x7C00 : 0xFC00;
    std::memcpy(weights.data() + 2 * (2 * 70 + 5), &word, 2);
    std::memcpy(weights.data() + 2 * (39 * 70 + 69), &word, 2);
  }
  try {
    quantize_nf4(weights, type, 40, 70, {});
    FAIL() << "a weight that is not finite was accepted";
  } catch (const ModelError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("row 2, column 5"));
  }
}

INSTANTIATE_TEST_SUITE_P(Nf4, NotFinite,
                         testing::Combine(testing::Values(FloatType::kF32, FloatType::kBF16, FloatType::kF16),
                                          testing::Values(INFINITY, -INFINITY, NAN)));

TEST(Nf4Quantize, WrongSizesAreOurBug) {
  const auto weights = as_bytes(some_weights(128, 1), FloatType::kF32);
  EXPECT_THROW(quantize_nf4(weights, FloatType::kF32, 3, 64, {}), InternalError);
  EXPECT_THROW(quantize_nf4(weights, FloatType::kBF16, 2, 64, {}), InternalError);
  EXPECT_THROW(quantize_nf4(weights, FloatType::kF32, 0, 64, {}), InternalError);
  EXPECT_THROW(quantize_nf4(weights, FloatType::kF32, 2, 64, {.block_size = 48}), InternalError);
  EXPECT_THROW(quantize_nf4(weights, FloatType::kF32, 2, 64, {.block_size = 16}), InternalError);
}

}  // namespace
}  // namespace phi3tune::quant
