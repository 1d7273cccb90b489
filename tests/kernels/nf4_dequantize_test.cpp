// The kernel's bits are those of quant::dequantize_nf4, whose own are bitsandbytes'.
#include "kernel_test.h"
#include "kernels.h"
#include "phi3tune/quant/nf4.h"
#include "rows.h"

namespace phi3tune::kernels {
namespace {

using namespace kernel_test;
using quant::FloatType;
using quant::Nf4Tensor;

struct Case {
  int64_t rows, cols;
  int64_t gap = 0;  // elements between the rows of the result
  int block_size = 64;
  bool double_quant = true;
  Source source = Source::kBfloat16;
  float scale = 0.02F;     // of absmax
  size_t code_offset = 0;  // bytes before the codes
  size_t out_offset = 0;   // elements before the result
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.rows << "x" << c.cols << " gap " << c.gap << " block " << c.block_size
       << (c.double_quant ? " double" : " single") << " source " << static_cast<int>(c.source) << " scale " << c.scale
       << " offsets " << c.code_offset << ", " << c.out_offset;
}

FloatType float_type(Source source) {
  return source == Source::kFloat32    ? FloatType::kF32
         : source == Source::kBfloat16 ? FloatType::kBF16
                                       : FloatType::kF16;
}

// Every code and every nested code as often as any other.
Nf4Tensor random_tensor(const Case& c) {
  Nf4Tensor tensor;
  tensor.rows = c.rows;
  tensor.cols = c.cols;
  tensor.block_size = c.block_size;
  tensor.source = float_type(c.source);
  tensor.double_quant = c.double_quant;
  tensor.code = quant::kNf4Code;
  const auto packed = random_integers<uint8_t>(static_cast<size_t>((tensor.numel() + 1) / 2), 0, 255, 1);
  tensor.packed.assign(packed.begin(), packed.end());
  const auto blocks = static_cast<size_t>(tensor.blocks());
  if (c.double_quant) {
    tensor.nested_codes = random_integers<uint8_t>(blocks, 0, 255, 2);
    // Of the offset's size, so that a product that is not rounded before it is added shows in many sums.
    tensor.nested_absmax = random_values<float>((blocks + 255) / 256, c.scale, 3);
    for (float& value : tensor.nested_absmax) value = c.scale + std::abs(value);
    tensor.nested_map = quant::signed_dynamic_map();
    tensor.offset = 1.37F * c.scale;
  } else {
    tensor.absmax = random_values<float>(blocks, c.scale, 4);
  }
  return tensor;
}

template <class T>
void has_the_bits_of_the_definition(const Case& c) {
  const Nf4Tensor tensor = random_tensor(c);
  const int64_t ld = c.cols + c.gap;
  std::vector<T> values(static_cast<size_t>(tensor.numel()));
  quant::dequantize_nf4(tensor, 0, tensor.numel(), sizeof(T) == 4 ? FloatType::kF32 : FloatType::kBF16, values.data());
  const std::vector<T> wanted = spread(values, c.cols, ld);

  const Buffer<uint8_t> codes(std::vector<uint8_t>(tensor.packed.begin(), tensor.packed.end()), c.code_offset);
  const Buffer<uint8_t> nested_codes(tensor.nested_codes);
  const Buffer<float> code_values(std::vector<float>(tensor.code.begin(), tensor.code.end()));
  const Buffer<float> nested_map(std::vector<float>(tensor.nested_map.begin(), tensor.nested_map.end()));
  const Buffer<float> nested_absmax(tensor.nested_absmax), absmax(tensor.absmax);
  const Buffer<float> offset(std::vector<float>{tensor.offset});
  Nf4View view{};
  view.codes = codes.data();
  view.code_values = code_values.data();
  view.block_size = c.block_size;
  if (c.double_quant) {
    view.nested_codes = nested_codes.data();
    view.nested_absmax = nested_absmax.data();
    view.nested_map = nested_map.data();
    view.offset = offset.data();
  } else {
    view.absmax = absmax.data();
  }
  view.rows = c.rows;
  view.cols = c.cols;
  view.source = c.source;
  const auto ours = under_all_schedules([&] {
    const Buffer<T> weight(wanted.size(), c.out_offset);
    EXPECT_EQ(nf4_dequantize(weight.data(), ld, view, nullptr), cudaSuccess);
    return weight.download();
  });
  expect_bits(ours, wanted);
}

class Nf4Dequantize : public ::testing::TestWithParam<Case> {};
TEST_P(Nf4Dequantize, HasTheBitsOfTheDefinitionInBfloat16) { has_the_bits_of_the_definition<bf16>(GetParam()); }
TEST_P(Nf4Dequantize, HasTheBitsOfTheDefinitionInFloat32) { has_the_bits_of_the_definition<float>(GetParam()); }

// One weight, around the vectors' widths, multiples of 4 but not 8, 7 mod 8, a tile of 8192 and around it, more tiles
// than blocks.
INSTANTIATE_TEST_SUITE_P(Sizes, Nf4Dequantize,
                         ::testing::Values(Case{1, 1}, Case{1, 3}, Case{1, 4}, Case{1, 7}, Case{1, 8}, Case{1, 9},
                                           Case{1, 12}, Case{1, 64}, Case{3, 67}, Case{7, 585}, Case{1, 8192},
                                           Case{1, 8188}, Case{1, 8200}, Case{1, 8192 + 4095}, Case{3, 8200},
                                           Case{33, 3080}, Case{3, 3072}, Case{2, 5120}, Case{2, 8192},
                                           Case{1, 17920}));
INSTANTIATE_TEST_SUITE_P(RowsWithADistance, Nf4Dequantize,
                         ::testing::Values(Case{1, 64, 16}, Case{300, 64, 16}, Case{33, 3072, 16}, Case{3, 8192, 8},
                                           Case{2, 17920, 64}, Case{37, 24, 8}, Case{37, 20, 4}, Case{9, 67, 5},
                                           Case{5, 22, 8}, Case{40, 8, 8}, Case{40, 4, 4}, Case{5, 3072, 3},
                                           Case{700, 16, 16}));
INSTANTIATE_TEST_SUITE_P(BlockSizes, Nf4Dequantize,
                         ::testing::Values(Case{5, 1928, 0, 32}, Case{5, 1928, 8, 128}, Case{5, 1928, 0, 256},
                                           Case{5, 1928, 8, 512}, Case{9, 1928, 0, 1024}, Case{9, 1928, 8, 2048},
                                           Case{9, 1928, 0, 4096}, Case{3, 1929, 1, 4096}, Case{11, 3072, 16, 32}));
INSTANTIATE_TEST_SUITE_P(
    Sources, Nf4Dequantize,
    ::testing::Values(Case{6, 1416, 8, 64, true, Source::kFloat32}, Case{20, 1416, 0, 32, true, Source::kFloat32},
                      Case{6, 1416, 8, 64, true, Source::kFloat16}, Case{6, 1415, 0, 64, true, Source::kFloat32},
                      Case{6, 1415, 0, 64, true, Source::kFloat16}, Case{6, 1416, 8, 64, false, Source::kFloat32},
                      Case{6, 1416, 0, 64, false, Source::kBfloat16}, Case{6, 1415, 1, 64, false, Source::kFloat16},
                      Case{6, 1416, 0, 64, true, Source::kFloat16, 1e-6F},    // subnormal
                      Case{6, 1416, 0, 64, false, Source::kFloat16, 6e4F},    // some are infinite
                      Case{6, 1416, 0, 64, false, Source::kBfloat16, 1e-39F}  // subnormal floats
                      ));
INSTANTIATE_TEST_SUITE_P(Addresses, Nf4Dequantize,
                         ::testing::Values(Case{2, 4104, 0, 64, true, Source::kBfloat16, 0.02F, 4, 0},
                                           Case{2, 4104, 8, 64, true, Source::kBfloat16, 0.02F, 0, 1},
                                           Case{2, 4104, 0, 64, true, Source::kBfloat16, 0.02F, 1, 4}));

TEST(Nf4DequantizeLaunch, AnEmptyMatrixIsNoLaunch) {
  Nf4View view{};
  view.block_size = 64;
  view.cols = 64;
  EXPECT_EQ(nf4_dequantize<bf16>(nullptr, 64, view, nullptr), cudaSuccess);
}

}  // namespace
}  // namespace phi3tune::kernels
