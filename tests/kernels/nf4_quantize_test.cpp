// The kernel's bytes are those of quant::quantize_nf4, whose own are bitsandbytes'.
#include <limits>

#include "kernel_test.h"
#include "kernels.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::kernels {
namespace {

using namespace kernel_test;
using quant::FloatType;
using quant::Nf4Tensor;

constexpr long long kNone = std::numeric_limits<long long>::max();

struct Case {
  int64_t size;
  int block_size = 64;
  bool double_quant = true;
  float deviation = 0.02F;
  size_t weight_offset = 0;  // elements before the weights
  size_t code_offset = 0;    // bytes before the codes
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.size << " block " << c.block_size << (c.double_quant ? " double" : " single") << " deviation "
       << c.deviation << " offsets " << c.weight_offset << ", " << c.code_offset;
}

template <class W>
constexpr Source kSource = std::is_same_v<W, float>  ? Source::kFloat32
                           : std::is_same_v<W, bf16> ? Source::kBfloat16
                                                     : Source::kFloat16;
template <class W>
constexpr FloatType kFloatType = std::is_same_v<W, float>  ? FloatType::kF32
                                 : std::is_same_v<W, bf16> ? FloatType::kBF16
                                                           : FloatType::kF16;

template <class W>
Nf4Tensor definition(const std::vector<W>& weights, int block_size, bool double_quant) {
  quant::Nf4Options options;
  options.block_size = block_size;
  options.double_quant = double_quant;
  return quant::quantize_nf4(std::as_bytes(std::span(weights)), kFloatType<W>, 1, static_cast<int64_t>(weights.size()),
                             options);
}

struct Quantised {
  std::vector<uint8_t> codes, nested_codes;
  std::vector<float> absmax, nested_absmax, offset;
  std::vector<long long> bad;
};

template <class W>
Quantised quantised(const std::vector<W>& weights, const Case& c) {
  const size_t size = weights.size(), block = static_cast<size_t>(c.block_size), blocks = (size + block - 1) / block;
  const Buffer<W> d_weights(weights, c.weight_offset);
  const auto& map = quant::signed_dynamic_map();
  const Buffer<float> d_map(std::vector<float>(map.begin(), map.end()));
  auto [codes, nested_codes, absmax, nested_absmax, offset, bad] = under_all_schedules([&] {
    const size_t nested = c.double_quant ? blocks : 0;
    const Buffer<uint8_t> d_codes((size + 1) / 2, c.code_offset), d_nested_codes(nested);
    const Buffer<float> d_absmax(blocks), d_nested_absmax((nested + 255) / 256), d_offset(c.double_quant ? 1 : 0);
    const Buffer<long long> d_bad(std::vector<long long>{kNone});
    Nf4Target target{};
    target.codes = d_codes.data();
    target.absmax = d_absmax.data();
    if (c.double_quant) {
      target.nested_codes = d_nested_codes.data();
      target.nested_absmax = d_nested_absmax.data();
      target.offset = d_offset.data();
      target.nested_map = d_map.data();
    }
    target.block_size = c.block_size;
    target.first_not_finite = d_bad.data();
    EXPECT_EQ(nf4_quantize(target, d_weights.data(), kSource<W>, static_cast<int64_t>(size), nullptr), cudaSuccess);
    return std::tuple(d_codes.download(), d_nested_codes.download(), d_absmax.download(), d_nested_absmax.download(),
                      d_offset.download(), d_bad.download());
  });
  return {codes, nested_codes, absmax, nested_absmax, offset, bad};
}

template <class W>
void expect_the_definition(const std::vector<W>& weights, const Case& c) {
  const Quantised ours = quantised(weights, c);
  const Nf4Tensor wanted = definition(weights, c.block_size, c.double_quant);
  EXPECT_EQ(ours.bad[0], kNone);
  expect_bits(ours.codes, std::vector<uint8_t>(wanted.packed.begin(), wanted.packed.end()));
  expect_bits(ours.absmax, definition(weights, c.block_size, false).absmax);
  expect_bits(ours.nested_codes, wanted.nested_codes);
  expect_bits(ours.nested_absmax, wanted.nested_absmax);
  if (c.double_quant) expect_bits(ours.offset, {wanted.offset});
}

// Blocks of different size of values, one of zeros, the largest magnitude negative in some.
template <class W>
std::vector<W> some_weights(const Case& c) {
  auto values = random_values<double>(static_cast<size_t>(c.size), c.deviation, 11);
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t block = i / static_cast<size_t>(c.block_size);
    values[i] *= 1.0 + static_cast<double>(block % 17);
    if (block % 29 == 3) values[i] = 0;
  }
  std::vector<W> weights;
  for (const double value : values) weights.push_back(rounded<W>(value));
  return weights;
}

class Nf4Quantize : public ::testing::TestWithParam<Case> {};
TEST_P(Nf4Quantize, HasTheBytesOfTheDefinitionFromBfloat16) {
  expect_the_definition(some_weights<bf16>(GetParam()), GetParam());
}
TEST_P(Nf4Quantize, HasTheBytesOfTheDefinitionFromFloat16) {
  expect_the_definition(some_weights<__half>(GetParam()), GetParam());
}
TEST_P(Nf4Quantize, HasTheBytesOfTheDefinitionFromFloat32) {
  expect_the_definition(some_weights<float>(GetParam()), GetParam());
}
// Around a group of 8, a block and a tile of 4096.
INSTANTIATE_TEST_SUITE_P(Sizes, Nf4Quantize,
                         ::testing::Values(Case{1}, Case{2}, Case{4}, Case{7}, Case{8}, Case{9}, Case{63}, Case{64},
                                           Case{65}, Case{3072}, Case{4095}, Case{4096}, Case{4097}, Case{5 * 4096 + 7},
                                           Case{17920}, Case{300 * 64 + 20}));
INSTANTIATE_TEST_SUITE_P(BlockSizes, Nf4Quantize,
                         ::testing::Values(Case{9000, 32}, Case{9001, 128}, Case{9004, 256}, Case{9007, 512},
                                           Case{9000, 1024}, Case{9001, 2048}, Case{9004, 4096}, Case{12288, 4096},
                                           Case{9000, 64, false}, Case{9007, 1024, false}));
// Products that are subnormal or overflow, and the reciprocal of a subnormal absmax.
INSTANTIATE_TEST_SUITE_P(Magnitudes, Nf4Quantize,
                         ::testing::Values(Case{1000, 64, true, 1e-7F}, Case{1000, 64, true, 1e-40F},
                                           Case{1000, 64, true, 1000.0F}));
INSTANTIATE_TEST_SUITE_P(Addresses, Nf4Quantize,
                         ::testing::Values(Case{4500, 64, true, 0.02F, 1, 0}, Case{4500, 512, true, 0.02F, 0, 1},
                                           Case{4503, 64, false, 0.02F, 3, 3}));

TEST(Nf4QuantizeManyBlocks, MoreAbsmaxThanWaitAtOnceToBeAdded) {
  const Case c{4500 * 32 + 3, 32};
  expect_the_definition(some_weights<bf16>(c), c);
}

TEST(Nf4QuantizeOddButLegal, ZerosAreCodeZero) {
  const Case c{1000};
  const std::vector<bf16> zeros(1000, rounded<bf16>(0));
  expect_the_definition(zeros, c);  // every absmax is the mean: 0 times infinity in the nested pass
}

TEST(Nf4QuantizeOddButLegal, EqualAbsmaxAreNestedCodeZero) {
  const Case c{640};
  std::vector<float> weights(640);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = i % 2 == 0 ? 0.5F : -0.5F;
  expect_the_definition(weights, c);
}

// Values on a threshold, which is above it by the reference's rule only if it is larger.
TEST(Nf4QuantizeOddButLegal, ThresholdsThemselvesAreRoundedDown) {
  std::vector<float> weights(64, 0.0F);
  weights[0] = 1.0F;
  const float thresholds[] = {-0.8480963706970215F, -0.045525018125772476F, 0.03979014977812767F, 0.8614784479141235F};
  for (size_t i = 0; i < 4; ++i) {
    weights[3 * i + 1] = thresholds[i];
    weights[3 * i + 2] = std::nextafter(thresholds[i], 2.0F);
    weights[3 * i + 3] = std::nextafter(thresholds[i], -2.0F);
  }
  expect_the_definition(weights, Case{64, 64, false});
}

TEST(Nf4QuantizeNotFinite, NamesTheFirstOne) {
  for (const double bad : {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                           std::numeric_limits<double>::quiet_NaN()}) {
    auto weights = random_values<bf16>(9001, 0.02, 12);
    for (const size_t at : {9000U, 5003U, 5006U, 8200U}) weights[at] = rounded<bf16>(bad);
    EXPECT_EQ(quantised(weights, Case{9001, 64, false}).bad[0], 5003);
    EXPECT_EQ(quantised(weights, Case{9001, 64, false, 0, 1, 1}).bad[0], 5003);
  }
}

TEST(Nf4QuantizeNotFinite, AnEarlierFindStays) {
  auto weights = random_values<float>(100, 0.02, 13);
  weights[70] = std::numeric_limits<float>::quiet_NaN();
  const Buffer<float> d_weights(weights), absmax(2);
  const Buffer<uint8_t> codes(50);
  const Buffer<long long> bad(std::vector<long long>{12});
  Nf4Target target{};
  target.codes = codes.data();
  target.absmax = absmax.data();
  target.block_size = 64;
  target.first_not_finite = bad.data();
  EXPECT_EQ(nf4_quantize(target, d_weights.data(), Source::kFloat32, 100, nullptr), cudaSuccess);
  EXPECT_EQ(bad.download()[0], 12);
}

TEST(Nf4QuantizeLaunch, NoWeightsAreNoLaunch) {
  EXPECT_EQ(nf4_quantize({}, nullptr, Source::kBfloat16, 0, nullptr), cudaSuccess);
}

}  // namespace
}  // namespace phi3tune::kernels
