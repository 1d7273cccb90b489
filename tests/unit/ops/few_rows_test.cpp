// Products of a few rows: dense, and with an NF4 weight that is never written out.
#include <algorithm>
#include <vector>

#include "fixture.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::ops::test {
namespace {

class FewRows : public ByKernel {};

struct Shape {
  int64_t outputs, inputs;
};

const quant::Nf4Options kDouble{.block_size = 64, .double_quant = true};
const quant::Nf4Options kSingle{.block_size = 64, .double_quant = false};
const quant::Nf4Options kWideDouble{.block_size = 128, .double_quant = true};

at::ScalarType dtype_of(quant::FloatType type) {
  return type == quant::FloatType::kF32 ? at::kFloat : type == quant::FloatType::kBF16 ? at::kBFloat16 : at::kHalf;
}

quant::Nf4Tensor quantized(const Shape& shape, const quant::Nf4Options& options,
                           quant::FloatType source = quant::FloatType::kBF16) {
  const at::Tensor weight = normal({shape.outputs, shape.inputs}, dtype_of(source), 0.2);
  const auto* bytes = static_cast<const std::byte*>(weight.data_ptr());
  return quant::quantize_nf4({bytes, static_cast<size_t>(weight.nbytes())}, source, shape.outputs, shape.inputs,
                             options);
}

// Each sum holds to float64 within what its own order may lose, and one rounding to the result's dtype.
void expect_sum(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor wide_x = x.to(at::kDouble), wide_weight = weight.to(at::kDouble);
  const at::Tensor exact = definition::linear(wide_x, wide_weight);
  const at::Tensor magnitude = definition::linear(wide_x.abs(), wide_weight.abs());
  const double steps = static_cast<double>(x.size(1)) / 4 + 16;  // of the longest chain: four lanes at least
  const double in_sum = x.scalar_type() == at::kDouble ? 0x1p-53 : 0x1p-24;
  const double once = x.scalar_type() == at::kBFloat16 ? 0x1p-8 : in_sum;  // half of the last of 8 bits
  const at::Tensor bound = magnitude * (in_sum * steps) * (1 + once) + exact.abs() * once;
  EXPECT_TRUE(((y.to(at::kDouble) - exact).abs() <= bound).all().item<bool>());
}

TEST_P(FewRows, LinearHoldsToFloat64) {
  for (const Shape& shape : {Shape{1, 1}, Shape{7, 5}, Shape{33, 31}, Shape{13, 129}, Shape{70, 1000}}) {
    const at::Tensor weight = normal({shape.outputs, shape.inputs}, dtype(), 0.2);
    for (int64_t rows = 1; rows <= kFewRows; ++rows) {
      const at::Tensor x = normal({rows, shape.inputs}, dtype());
      const Guarded y({rows, shape.outputs}, dtype());
      ops::linear(y, x, {weight});
      expect_sum(y, x, weight);
      EXPECT_TRUE(y.intact());
    }
  }
}

TEST_P(FewRows, QuantizedLinearHoldsToFloat64) {
  for (const quant::Nf4Options& options : {kDouble, kSingle, kWideDouble}) {
    for (const Shape& shape : {Shape{3, 384}, Shape{37, 64}, Shape{21, 96}, Shape{130, 256}, Shape{5, 97}}) {
      for (const auto source : {quant::FloatType::kBF16, quant::FloatType::kF16, quant::FloatType::kF32}) {
        const quant::Nf4Tensor weight = quantized(shape, options, source);
        const at::Tensor dense = at::empty({shape.outputs, shape.inputs}, dtype());
        dequantize(dense, weight, {});
        for (const int64_t rows : {1, 2, 3, 5, 8, 16}) {
          const at::Tensor x = normal({rows, shape.inputs}, dtype());
          const Guarded y({rows, shape.outputs}, dtype());
          quantized_linear(y, x, weight);
          expect_sum(y, x, dense);
          EXPECT_TRUE(y.intact());
        }
      }
    }
  }
}

// A row of one 1 and zeros picks a column: the very values that dequantize() writes. Over 256 blocks have two nested
// scales, and the second begins inside a row.
TEST_P(FewRows, QuantizedValuesAreThoseOfDequantize) {
  for (const quant::Nf4Options& options : {kDouble, kSingle, kWideDouble}) {
    for (const auto source : {quant::FloatType::kBF16, quant::FloatType::kF16, quant::FloatType::kF32}) {
      const quant::Nf4Tensor weight = quantized({100, 384}, options, source);
      const at::Tensor dense = at::empty({100, 384}, dtype()), y = at::empty({16, 100}, dtype());
      dequantize(dense, weight, {});
      for (int64_t first = 0; first < 384; first += 16) {
        quantized_linear(y, at::eye(384, dtype()).narrow(0, first, 16).contiguous(), weight);
        EXPECT_TRUE(y.eq(dense.narrow(1, first, 16).t()).all().item<bool>());
      }
      EXPECT_TRUE(same_bits(definition::quantized_linear(normal({2, 384}, dtype(), 0.0), weight).abs(),
                            at::zeros({2, 100}, dtype())));
    }
  }
}

TEST_P(FewRows, ARowHasItsOwnBitsWhateverIsBesideItAndForAnyThreads) {
  const at::Tensor x = normal({kFewRows, 1024}, dtype()), dense = normal({530, 1024}, dtype());
  const quant::Nf4Tensor whole = quantized({530, 1024}, kDouble), crossing = quantized({530, 1000}, kDouble);
  const int64_t dense_rows = dtype() == at::kBFloat16 ? 8 : kFewRows;
  const auto run = [&](int64_t first, int64_t rows, int threads) {
    const Threads scope(threads);
    const at::Tensor in = x.narrow(0, first, rows).contiguous();
    const at::Tensor in_crossing = in.narrow(1, 0, 1000).contiguous();
    std::vector<at::Tensor> out{at::empty({rows, 530}, dtype()), at::empty({rows, 530}, dtype()),
                                at::empty({rows, 530}, dtype())};
    out[0].zero_();
    if (rows <= dense_rows) {
      ops::linear(out[0], in, {dense});
    }
    quantized_linear(out[1], in, whole);
    quantized_linear(out[2], in_crossing, crossing);
    return at::cat(out, 1);
  };
  const at::Tensor alone = run(0, 1, 2);
  EXPECT_TRUE(same_bits(alone, run(0, 1, 1)));
  for (int64_t rows = 2; rows <= kFewRows; ++rows) {
    const at::Tensor together = run(0, rows, 2);
    const int64_t from = rows <= dense_rows ? 0 : 530;
    const auto same_from = [&](int64_t row, const at::Tensor& other) {
      return same_bits(together.narrow(0, row, 1).narrow(1, from, 1590 - from), other.narrow(1, from, 1590 - from));
    };
    EXPECT_TRUE(same_from(0, alone)) << rows;
    EXPECT_TRUE(same_from(rows - 1, run(rows - 1, 1, 2))) << rows;
    EXPECT_TRUE(same_bits(together, run(0, rows, 1))) << rows;
  }
}

TEST_P(FewRows, WrongShapesAreABugOfOurs) {
  const quant::Nf4Tensor weight = quantized({8, 64}, kDouble);
  const auto product = [&](at::IntArrayRef y, at::IntArrayRef x) {
    quantized_linear(at::empty(y, dtype()), normal(x, dtype()), weight);
  };
  EXPECT_NO_THROW(product({2, 8}, {2, 64}));
  EXPECT_NO_THROW(product({0, 8}, {0, 64}));
  EXPECT_THROW(product({2, 9}, {2, 64}), InternalError);
  EXPECT_THROW(product({2, 8}, {2, 65}), InternalError);
  EXPECT_THROW(product({17, 8}, {17, 64}), InternalError);
  quant::Nf4Tensor part = weight;
  part.packed.pop_back();
  EXPECT_THROW(quantized_linear(at::empty({1, 8}, dtype()), normal({1, 64}, dtype()), part), InternalError);
}

FOR_ALL_KERNELS(FewRows);

}  // namespace
}  // namespace phi3tune::ops::test
