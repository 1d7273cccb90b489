// Products of a few rows: dense, and with an NF4 weight that is never written out.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
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

// Each sum holds to float64 within what its own order may lose, and one rounding to the result's dtype; `more`: what
// the operands may be off by.
void expect_sum(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& more = {}) {
  const at::Tensor wide_x = x.to(at::kDouble), wide_weight = weight.to(at::kDouble);
  const at::Tensor exact = definition::linear(wide_x, wide_weight);
  const at::Tensor magnitude = definition::linear(wide_x.abs(), wide_weight.abs());
  const double steps = static_cast<double>(x.size(1)) / 4 + 16;  // of the longest chain: four lanes at least
  const double in_sum = x.scalar_type() == at::kDouble ? 0x1p-53 : 0x1p-24;
  const double once = x.scalar_type() == at::kBFloat16 ? 0x1p-8 : in_sum;  // half of the last of 8 bits
  at::Tensor bound = magnitude * (in_sum * steps) * (1 + once) + exact.abs() * once;
  if (more.defined()) {
    bound = bound + more * (1 + once);
  }
  EXPECT_TRUE(((y.to(at::kDouble) - exact).abs() <= bound).all().item<bool>());
}

// Operands of 15 bits: x within half a step of 64 elements' largest, the weight within half a step of its block's.
bool in_integers(at::ScalarType dtype, const quant::Nf4Tensor& weight) {
  return dtype == at::kBFloat16 && std::string_view(cpu::kernels().isa) == "avx512" && weight.block_size % 64 == 0 &&
         weight.cols % weight.block_size == 0;
}

// absmax * code in float64, not rounded to the source's dtype, and absmax of every element.
struct Unrounded {
  at::Tensor values, absmax;
  explicit Unrounded(const quant::Nf4Tensor& weight)
      : values(at::empty({weight.rows, weight.cols}, at::kDouble)), absmax(at::empty_like(values)) {
    const std::vector<float> blocks = quant::restored_absmax(weight);
    for (int64_t i = 0; i < weight.numel(); ++i) {
      const uint8_t byte = weight.packed[static_cast<size_t>(i / 2)];
      const double block = blocks[static_cast<size_t>(i / weight.block_size)];
      absmax.data_ptr<double>()[i] = std::abs(block);
      values.data_ptr<double>()[i] = block * weight.code[i % 2 == 0 ? byte >> 4 : byte & 15];
    }
  }
};

at::Tensor largest_of_64(const at::Tensor& x) {
  const at::Tensor groups = x.to(at::kDouble).abs().reshape({x.size(0), -1, 64});
  return groups.amax(2, true).expand_as(groups).reshape(x.sizes()).contiguous();
}

void expect_product(const at::Tensor& y, const at::Tensor& x, const quant::Nf4Tensor& weight) {
  if (!in_integers(x.scalar_type(), weight)) {
    const at::Tensor dense = at::empty({weight.rows, weight.cols}, x.scalar_type());
    dequantize(dense, weight, {});
    expect_sum(y, x, dense);
    return;
  }
  const Unrounded exact(weight);
  constexpr double kHalfStep = 0.5 / 16383 * (1 + 0x1p-20);
  const at::Tensor most = largest_of_64(x);
  const at::Tensor off = definition::linear(most * kHalfStep, exact.values.abs()) +
                         definition::linear(x.to(at::kDouble).abs() + most * kHalfStep, exact.absmax * kHalfStep);
  expect_sum(y, x, exact.values, off);
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
    for (const Shape& shape :
         {Shape{3, 384}, Shape{37, 64}, Shape{21, 96}, Shape{130, 256}, Shape{5, 97}, Shape{9, 1216}}) {
      for (const auto source : {quant::FloatType::kBF16, quant::FloatType::kF16, quant::FloatType::kF32}) {
        const quant::Nf4Tensor weight = quantized(shape, options, source);
        for (const int64_t rows : {1, 2, 3, 5, 8, 16}) {
          const at::Tensor x = normal({rows, shape.inputs}, dtype());
          const Guarded y({rows, shape.outputs}, dtype());
          quantized_linear(y, x, weight);
          expect_product(y, x, weight);
          EXPECT_TRUE(y.intact());
        }
      }
    }
  }
}

// A row of one 1 and zeros picks a column: the very values that dequantize() writes, or the unrounded ones to the last
// place. Over 256 blocks have two nested scales, and the second begins inside a row.
TEST_P(FewRows, QuantizedValuesAreThoseOfDequantize) {
  for (const quant::Nf4Options& options : {kDouble, kSingle, kWideDouble}) {
    for (const auto source : {quant::FloatType::kBF16, quant::FloatType::kF16, quant::FloatType::kF32}) {
      const quant::Nf4Tensor weight = quantized({100, 384}, options, source);
      const at::Tensor dense = at::empty({100, 384}, dtype()), y = at::empty({16, 100}, dtype());
      const Unrounded unrounded(weight);
      dequantize(dense, weight, {});
      for (int64_t first = 0; first < 384; first += 16) {
        quantized_linear(y, at::eye(384, dtype()).narrow(0, first, 16).contiguous(), weight);
        if (in_integers(dtype(), weight)) {
          const at::Tensor wanted = unrounded.values.narrow(1, first, 16).t();
          const at::Tensor step = unrounded.absmax.narrow(1, first, 16).t() * (0.51 / 16383);
          EXPECT_TRUE(((y - wanted).abs() <= step + wanted.abs() * 0x1p-8).all().item<bool>());
        } else {
          EXPECT_TRUE(y.eq(dense.narrow(1, first, 16).t()).all().item<bool>());
        }
      }
      EXPECT_TRUE(same_bits(definition::quantized_linear(normal({2, 384}, dtype(), 0.0), weight).abs(),
                            at::zeros({2, 100}, dtype())));
    }
  }
}

// The largest sums that 15-bit operands can have, and outliers beside small values.
TEST_P(FewRows, QuantizedProductsOfExtremeValuesHold) {
  const at::Tensor ones = at::ones({4, 1024}, at::kBFloat16);
  const quant::Nf4Tensor weight =
      quant::quantize_nf4({static_cast<const std::byte*>(ones.data_ptr()), static_cast<size_t>(ones.nbytes())},
                          quant::FloatType::kBF16, 4, 1024, kSingle);
  for (const double value : {1.0, -3.0e38, 1.0e-25}) {
    const at::Tensor x = at::full({2, 1024}, value / 1024, dtype()), y = at::empty({2, 4}, dtype());
    quantized_linear(y, x, weight);
    expect_product(y, x, weight);
  }
  const quant::Nf4Tensor random = quantized({70, 1024}, kDouble);
  at::Tensor x = normal({3, 1024}, dtype());
  x.select(1, 100).mul_(1000);
  x.select(1, 1023).mul_(-3000);
  x.narrow(1, 128, 64).zero_();
  const at::Tensor y = at::empty({3, 70}, dtype());
  quantized_linear(y, x, random);
  expect_product(y, x, random);
}

TEST_P(FewRows, AValueThatIsNotFiniteSpoilsItsRowAlone) {
  const quant::Nf4Tensor weight = quantized({70, 320}, kDouble);
  for (const double bad : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    const at::Tensor x = normal({3, 320}, dtype()), y = at::empty({3, 70}, dtype());
    quantized_linear(y, x, weight);
    const at::Tensor before = y.clone();
    x.index_put_({at::tensor(1), at::tensor(300)}, at::scalar_tensor(bad, dtype()));
    quantized_linear(y, x, weight);
    EXPECT_FALSE(y.select(0, 1).isfinite().any().item<bool>());
    EXPECT_TRUE(same_bits(y.select(0, 0), before.select(0, 0)));
    EXPECT_TRUE(same_bits(y.select(0, 2), before.select(0, 2)));
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
