// Dropout against the mask that philox.h defines and against the CPU's kernel, to the bit.
#include "kernels.h"
#include "matrix.h"
#include "ops/cpu/kernels.h"
#include "ops/philox.h"

namespace phi3tune::kernel_test {
namespace {

using kernels::bf16;

// Documents of one row, of none and of several; sample ids and a seed of more than 32 bits.
struct Key {
  std::vector<int32_t> cu_seqlens{0};
  std::vector<uint64_t> sample_ids;
  double p = 0.3;
  uint64_t seed = 0x123456789abcdef1, step = 0x200000003;
  uint32_t layer = 31, module = 4;

  explicit Key(int64_t rows) {
    for (int64_t i = 0; cu_seqlens.back() < rows; ++i) {
      const int64_t length = std::vector<int64_t>{1, 0, 3, 2, 9}[static_cast<size_t>(i % 5)];
      cu_seqlens.push_back(static_cast<int32_t>(std::min(rows, cu_seqlens.back() + length)));
      sample_ids.push_back(0x9e3779b97f4a7c15 * static_cast<uint64_t>(i + 1));
    }
    cu_seqlens.push_back(cu_seqlens.back());  // one that ends where the last one does
    sample_ids.push_back(1);
  }
  float scale() const { return static_cast<float>(1.0 / (1.0 - p)); }
  size_t document(int64_t row) const {
    size_t document = 0;
    while (cu_seqlens[document + 1] <= row) ++document;
    return document;
  }
  ops::cpu::DropoutRow row(int64_t row) const {
    const size_t d = document(row);
    const ops::Philox4 words = ops::dropout_stream(*this, sample_ids[d]);
    return {{words[0], words[1], words[2], words[3]},
            static_cast<uint32_t>(row - cu_seqlens[d]),
            ops::dropout_threshold(p),
            1.0 / (1.0 - p)};
  }
  bool keeps(int64_t row, int64_t col) const {
    const size_t d = document(row);
    return ops::dropout_bits(ops::dropout_stream(*this, sample_ids[d]), static_cast<uint32_t>(row - cu_seqlens[d]),
                             col) >= ops::dropout_threshold(p);
  }
};

struct DeviceKey {
  Buffer<int32_t> cu_seqlens;
  Buffer<uint64_t> sample_ids;
  kernels::DropoutView view;

  explicit DeviceKey(const Key& key)
      : cu_seqlens(key.cu_seqlens),
        sample_ids(key.sample_ids),
        view{cu_seqlens.data(), sample_ids.data(), static_cast<int>(key.sample_ids.size()), key.seed,   key.step,
             key.layer,         key.module,        ops::dropout_threshold(key.p),           key.scale()} {}
};

class DropoutShapes : public ::testing::TestWithParam<Shape> {};

// NaN where the mask drops: none of it may come through.
template <class T>
std::vector<T> random_input(const Shape& shape, const Key& key, unsigned seed) {
  auto values = random_matrix<T>(shape, 1.0, seed);
  for (int64_t row = 0; row < shape.rows; ++row)
    for (int64_t col = 0; col < shape.cols; col += 5)
      if (!key.keeps(row, col)) values[shape.at(row, col)] = rounded<T>(NAN);
  return values;
}

template <class T>
void drops(const Shape& out_shape, const Shape& x_shape) {
  const Key key(x_shape.rows);
  const DeviceKey d_key(key);
  const auto x = random_input<T>(x_shape, key, 1);
  const Buffer<T> d_x(x, x_shape.offset);
  const auto ours = under_all_schedules([&] {
    Buffer<T> out(out_shape.size(), out_shape.offset);
    EXPECT_EQ(kernels::dropout(out.data(), out_shape.ld(), d_x.data(), x_shape.ld(), d_key.view, x_shape.rows,
                               x_shape.cols, nullptr),
              cudaSuccess);
    return out.download();
  });
  expect_bits(ours, matrix<T>(out_shape, [&](int64_t row, int64_t col) {
                const float value = static_cast<float>(real(x[x_shape.at(row, col)]));
                return rounded<T>(key.keeps(row, col) ? value * key.scale() : 0.0f);
              }));
}
TEST_P(DropoutShapes, KeepsAndScalesWhatTheMaskSays) {
  const Shape& x = GetParam();
  const Shape out{x.rows, x.cols, x.gap * 2, x.offset};
  drops<float>(out, x);
  drops<bf16>(out, x);
}

template <class T>
void adds(const Shape& dx_shape, const Shape& x_shape) {
  const Key key(x_shape.rows);
  const DeviceKey d_key(key);
  const auto x = random_input<T>(x_shape, key, 2), dx = random_matrix<T>(dx_shape, 1.0, 3);
  const Buffer<T> d_x(x, x_shape.offset);
  const auto ours = under_all_schedules([&] {
    const Buffer<T> d_dx(dx, dx_shape.offset);
    EXPECT_EQ(kernels::dropout_add(d_dx.data(), dx_shape.ld(), d_x.data(), x_shape.ld(), d_key.view, x_shape.rows,
                                   x_shape.cols, nullptr),
              cudaSuccess);
    return d_dx.download();
  });
  expect_bits(ours, matrix<T>(dx_shape, [&](int64_t row, int64_t col) {
                const T old = dx[dx_shape.at(row, col)];
                const float value = static_cast<float>(real(x[x_shape.at(row, col)]));
                return key.keeps(row, col) ? rounded<T>(std::fma(value, key.scale(), static_cast<float>(real(old))))
                                           : old;
              }));
}
TEST_P(DropoutShapes, AddsTheMaskedProductRoundedOnce) {
  const Shape& x = GetParam();
  const Shape out{x.rows, x.cols, x.gap * 2, x.offset};
  adds<float>(out, x);
  adds<bf16>(out, x);
}

// Every element against the words of philox.h, each step rounded to float32 on its own.
template <class T>
void makes_noise(const Shape& shape) {
  constexpr double kAlpha = 5.0;
  const Key key(shape.rows);
  const DeviceKey d_key(key);
  const auto x = random_matrix<T>(shape, 1.0, 4);
  const auto ours = under_all_schedules([&] {
    const Buffer<T> d_x(x, shape.offset);
    EXPECT_EQ(kernels::noise_add(d_x.data(), shape.ld(), d_key.view, kAlpha, shape.rows, shape.cols, nullptr),
              cudaSuccess);
    return d_x.download();
  });
  expect_bits(ours, matrix<T>(shape, [&](int64_t row, int64_t col) {
                const size_t d = key.document(row);
                const auto position = static_cast<uint32_t>(row - key.cu_seqlens[d]);
                const auto word =
                    static_cast<int32_t>(ops::dropout_bits(ops::dropout_stream(key, key.sample_ids[d]), position, col));
                const auto magnitude = static_cast<float>(
                    ops::noise_magnitude(kAlpha, key.cu_seqlens[d + 1] - key.cu_seqlens[d], shape.cols));
                const float noise = magnitude * (static_cast<float>(word) * 0x1p-31f);
                return rounded<T>(static_cast<float>(real(x[shape.at(row, col)])) + noise);
              }));
}
TEST_P(DropoutShapes, NoiseIsOfTheDocumentsLengthAndWords) {
  makes_noise<float>(GetParam());
  makes_noise<bf16>(GetParam());
}

TEST(Noise, EmptyMatrixIsNoLaunch) {
  EXPECT_EQ(kernels::noise_add<float>(nullptr, 8, {}, 1.0, 0, 8, nullptr), cudaSuccess);
}

INSTANTIATE_TEST_SUITE_P(Shapes, DropoutShapes,
                         ::testing::Values(Shape{1, 1}, Shape{3, 7}, Shape{2, 8}, Shape{5, 9}, Shape{7, 12},
                                           Shape{2, 15}, Shape{4, 16, 8}, Shape{4, 16, 3}, Shape{3, 24, 0, 1},
                                           Shape{40, 24, 8, 8}, Shape{9, 264}, Shape{3, 520, 16}, Shape{2, 1036},
                                           Shape{2, 3072, 16}, Shape{2, 5120}, Shape{1, 17920}));

// Vectors want every pointer and every distance to allow them.
TEST(Dropout, AnyOperandMayLieBadly) {
  const Shape plain{5, 32};
  for (const Shape& odd : {Shape{5, 32, 0, 1}, Shape{5, 32, 1}, Shape{5, 32, 8}}) {
    drops<float>(odd, plain);
    drops<float>(plain, odd);
    drops<bf16>(odd, plain);
    drops<bf16>(plain, odd);
    adds<bf16>(odd, plain);
    adds<bf16>(plain, odd);
  }
}

TEST(Dropout, AWidthMayBeNoWholeNumberOfVectors) {
  const Shape shape{5, 27, 5};
  drops<float>(shape, shape);
  drops<bf16>(shape, shape);
  adds<bf16>(shape, shape);
}

TEST(Dropout, KeepsBitsThatEqualTheThreshold) {
  const Key key(1);
  const DeviceKey d_key(key);
  const uint32_t bits = ops::dropout_bits(ops::dropout_stream(key, key.sample_ids[0]), 0, 5);
  for (const int64_t cols : {8, 7}) {  // in a vector and alone
    const Buffer<float> x(std::vector<float>(8, 1.0f)), out(8);
    for (const uint32_t more : {0u, 1u}) {
      kernels::DropoutView view = d_key.view;
      view.threshold = bits + more;
      ASSERT_EQ(kernels::dropout(out.data(), 8, x.data(), 8, view, 1, cols, nullptr), cudaSuccess);
      EXPECT_EQ(out.download()[5], more == 0 ? view.keep_scale : 0.0f) << cols << " columns, threshold + " << more;
    }
  }
}

TEST(Dropout, GivesTheBitsOfTheCpusKernel) {
  const Shape shape{20, 1000};
  const Key key(shape.rows);
  const DeviceKey d_key(key);
  const auto x = random_matrix<bf16>(shape, 1.0, 4);
  const Buffer<bf16> d_x(x), out(x.size());
  ASSERT_EQ(
      kernels::dropout(out.data(), shape.cols, d_x.data(), shape.cols, d_key.view, shape.rows, shape.cols, nullptr),
      cudaSuccess);
  std::vector<uint16_t> in(x.size()), wanted(x.size()), ours(x.size());
  std::memcpy(in.data(), x.data(), x.size() * 2);
  for (int64_t row = 0; row < shape.rows; ++row)
    ops::cpu::kKernelsPortable.bf16.dropout(wanted.data() + shape.at(row, 0), in.data() + shape.at(row, 0), shape.cols,
                                            key.row(row));
  const auto values = out.download();
  std::memcpy(ours.data(), values.data(), values.size() * 2);
  EXPECT_EQ(ours, wanted);
}

TEST(Dropout, RowsOfADocumentDoNotDependOnWhereItLies) {
  const std::vector<uint64_t> ids{7, 8}, swapped_ids{8, 7};
  const auto x = random_values<float>(5 * 64, 1.0, 5);
  auto swapped = std::vector<float>(x.begin() + 2 * 64, x.end());
  swapped.insert(swapped.end(), x.begin(), x.begin() + 2 * 64);
  const auto dropped = [](const std::vector<float>& values, const std::vector<int32_t>& ends,
                          const std::vector<uint64_t>& samples) {
    const Buffer<float> d_x(values), out(values.size());
    const Buffer<int32_t> d_ends(ends);
    const Buffer<uint64_t> d_samples(samples);
    const kernels::DropoutView view{d_ends.data(), d_samples.data(), 2, 1, 2, 3, 4, 0x80000000u, 2.0f};
    EXPECT_EQ(kernels::dropout(out.data(), 64, d_x.data(), 64, view, 5, 64, nullptr), cudaSuccess);
    return out.download();
  };
  const auto first = dropped(x, {0, 2, 5}, ids), second = dropped(swapped, {0, 3, 5}, swapped_ids);
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + 128, second.begin() + 192));
  EXPECT_TRUE(std::equal(first.begin() + 128, first.end(), second.begin()));
}

TEST(Dropout, NothingToDoIsNoFault) {
  EXPECT_EQ(kernels::dropout<bf16>(nullptr, 8, nullptr, 8, {}, 0, 8, nullptr), cudaSuccess);
  EXPECT_EQ(kernels::dropout_add<float>(nullptr, 8, nullptr, 8, {}, 3, 0, nullptr), cudaSuccess);
}

}  // namespace
}  // namespace phi3tune::kernel_test
