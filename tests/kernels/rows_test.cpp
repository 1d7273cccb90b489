// Rows gathered and scattered, sums and conversions: to the bit, gaps between rows untouched.
#include <limits>

#include "kernels.h"
#include "matrix.h"

namespace phi3tune::kernel_test {
namespace {

using kernels::bf16;

class RowShapes : public ::testing::TestWithParam<Shape> {};

// Bits that arithmetic would not keep: NaN with a payload, -0, infinity.
template <class T>
std::vector<T> table_with_special_values(const Shape& shape) {
  auto values = random_matrix<T>(shape, 2.0, 1);
  std::memset(static_cast<void*>(values.data()), 0xfd, sizeof(T));
  values[shape.at(shape.rows - 1, shape.cols - 1)] = rounded<T>(-std::numeric_limits<double>::infinity());
  values[shape.at(shape.rows / 2, 0)] = rounded<T>(-0.0);
  return values;
}

template <class T>
void gathers(const Shape& out_shape, const Shape& table_shape) {
  const auto table = table_with_special_values<T>(table_shape);
  auto ids = random_integers<int64_t>(static_cast<size_t>(out_shape.rows), 0, table_shape.rows - 1, 2);
  ids.back() = table_shape.rows - 1;
  ids.front() = 0;
  const Buffer<T> d_table(table, table_shape.offset);
  const Buffer<int64_t> d_ids(ids);
  const auto ours = under_all_schedules([&] {
    Buffer<T> out(out_shape.size(), out_shape.offset);
    EXPECT_EQ(kernels::gather_rows(out.data(), out_shape.ld(), d_table.data(), table_shape.ld(), d_ids.data(),
                                   out_shape.rows, out_shape.cols, nullptr),
              cudaSuccess);
    return out.download();
  });
  expect_bits(ours, matrix<T>(out_shape, [&](int64_t row, int64_t col) {
                return table[table_shape.at(ids[static_cast<size_t>(row)], col)];
              }));
}
TEST_P(RowShapes, GatherCopiesTheBitsOfTheRowsNamed) {
  const Shape& shape = GetParam();
  const Shape table{shape.rows + 5, shape.cols, shape.gap * 2, shape.offset};
  gathers<float>(shape, table);
  gathers<bf16>(shape, table);
}

// x_shape: with a row for each id.
template <class T>
void scatters(const Shape& out_shape, const Shape& x_shape, const std::vector<int64_t>& ids) {
  const auto x = ids.empty() ? std::vector<T>() : table_with_special_values<T>(x_shape);
  const Buffer<T> d_x(x, x_shape.offset);
  const Buffer<int64_t> d_ids(ids);
  const auto ours = under_all_schedules([&] {
    Buffer<T> out(out_shape.size(), out_shape.offset);
    EXPECT_EQ(kernels::scatter_rows(out.data(), out_shape.ld(), d_x.data(), x_shape.ld(), d_ids.data(), x_shape.rows,
                                    out_shape.rows, out_shape.cols, nullptr),
              cudaSuccess);
    return out.download();
  });
  auto wanted = matrix<T>(out_shape, [](int64_t, int64_t) { return rounded<T>(0.0); });
  for (size_t i = 0; i < ids.size(); ++i)
    for (int64_t col = 0; col < out_shape.cols; ++col)
      wanted[out_shape.at(ids[i], col)] = x[x_shape.at(static_cast<int64_t>(i), col)];
  expect_bits(ours, wanted);
}
TEST_P(RowShapes, ScatterWritesEveryRowAndZeroWhereNoneIsGiven) {
  const Shape& shape = GetParam();
  std::vector<int64_t> all, some;
  for (int64_t row = 0; row < shape.rows; ++row) {
    all.push_back(row);
    if (row % 3 == 1 || row == shape.rows - 1) some.push_back(row);
  }
  for (const auto& ids : {std::vector<int64_t>(), std::vector<int64_t>{0}, all, some}) {
    const Shape x{static_cast<int64_t>(ids.size()), shape.cols, shape.gap, shape.offset};
    scatters<float>(shape, x, ids);
    scatters<bf16>(shape, x, ids);
  }
}

enum class Target { kOwn, kLeft, kRight };
template <class T>
void adds(const Shape& own_shape, const Shape& left_shape, const Shape& right_shape, Target target) {
  const Shape sum_shape = target == Target::kRight ? right_shape : target == Target::kLeft ? left_shape : own_shape;
  const auto a = random_matrix<T>(left_shape, 2.0, 3), b = random_matrix<T>(right_shape, 0.01, 4);
  const auto ours = under_all_schedules([&] {
    const Buffer<T> d_a(a, left_shape.offset), d_b(b, right_shape.offset);
    const Buffer<T> own(sum_shape.size(), sum_shape.offset);
    const Buffer<T>& sum = target == Target::kLeft ? d_a : target == Target::kRight ? d_b : own;
    EXPECT_EQ(kernels::add(sum.data(), sum_shape.ld(), d_a.data(), left_shape.ld(), d_b.data(), right_shape.ld(),
                           sum_shape.rows, sum_shape.cols, nullptr),
              cudaSuccess);
    return sum.download();
  });
  expect_bits(
      ours, matrix<T>(sum_shape, [&](int64_t row, int64_t col) {
        return rounded<T>(static_cast<float>(real(a[left_shape.at(row, col)]) + real(b[right_shape.at(row, col)])));
      }));
}
TEST_P(RowShapes, AddRoundsTheSumOnceAlsoOverAnOperand) {
  const Shape& shape = GetParam();
  const Shape right{shape.rows, shape.cols, shape.gap * 3, shape.offset};
  for (const Target target : {Target::kOwn, Target::kLeft, Target::kRight}) {
    adds<float>(shape, shape, right, target);
    adds<bf16>(shape, shape, right, target);
  }
}

template <class Out, class In>
void converts(const Shape& out_shape, const Shape& shape, float scale) {
  auto in = random_matrix<In>(shape, 2.0, 5);
  in[shape.at(shape.rows / 2, 0)] = rounded<In>(-std::numeric_limits<double>::infinity());
  in[shape.at(shape.rows - 1, shape.cols - 1)] = rounded<In>(-0.0);
  const Buffer<In> d_in(in, shape.offset);
  const auto ours = under_all_schedules([&] {
    Buffer<Out> out(out_shape.size(), out_shape.offset);
    EXPECT_EQ(
        kernels::convert(out.data(), out_shape.ld(), d_in.data(), shape.ld(), shape.rows, shape.cols, scale, nullptr),
        cudaSuccess);
    return out.download();
  });
  expect_bits(ours, matrix<Out>(out_shape, [&](int64_t row, int64_t col) {
                return rounded<Out>(static_cast<float>(real(in[shape.at(row, col)])) * scale);
              }));
}
TEST_P(RowShapes, ConvertScalesAndRoundsOnce) {
  const Shape& shape = GetParam();
  const Shape out{shape.rows, shape.cols, shape.gap * 2, shape.offset};
  for (const float scale : {1.0f, 1.7f}) {
    converts<float, float>(out, shape, scale);
    converts<float, bf16>(out, shape, scale);
    converts<bf16, float>(out, shape, scale);
    converts<bf16, bf16>(out, shape, scale);
  }
}

// One element; around a vector; multiples of 4 but not of 8; 7 mod 8; rows apart with and without vectors; pointers off
// their 16 bytes; a tile and a bit more; more rows than a block has warps; the models' widths.
INSTANTIATE_TEST_SUITE_P(Shapes, RowShapes,
                         ::testing::Values(Shape{1, 1}, Shape{3, 7}, Shape{2, 8}, Shape{5, 9}, Shape{3, 12},
                                           Shape{2, 15}, Shape{4, 16, 8}, Shape{4, 16, 3}, Shape{3, 24, 0, 1},
                                           Shape{3, 24, 8, 8}, Shape{17, 40, 8}, Shape{9, 1024}, Shape{3, 1032, 16},
                                           Shape{2, 4100}, Shape{2, 3072, 16}, Shape{2, 5120}, Shape{1, 17920}));

// Rows that allow vectors, of a width that is no whole number of them.
template <class T>
void leaves_gaps_alone() {
  const Shape shape{5, 27, 5};
  gathers<T>(shape, shape);
  scatters<T>(shape, shape, {0, 1, 2, 3, 4});
  adds<T>(shape, shape, shape, Target::kOwn);
  converts<T, float>(shape, shape, 1.7f);
  converts<T, bf16>(shape, shape, 1.7f);
}
TEST(Rows, AWidthMayBeNoWholeNumberOfVectors) {
  leaves_gaps_alone<float>();
  leaves_gaps_alone<bf16>();
}

// Vectors want every pointer and every distance to allow them.
template <class T>
void takes_odd_operands() {
  const Shape plain{5, 32};
  for (const Shape& odd : {Shape{5, 32, 0, 1}, Shape{5, 32, 1}, Shape{5, 32, 8}}) {
    gathers<T>(odd, plain);
    gathers<T>(plain, odd);
    const std::vector<int64_t> ids{0, 1, 2, 3, 4};
    scatters<T>(odd, plain, ids);
    scatters<T>(plain, odd, ids);
    adds<T>(odd, plain, plain, Target::kOwn);
    adds<T>(plain, odd, plain, Target::kOwn);
    adds<T>(plain, plain, odd, Target::kOwn);
    converts<T, float>(odd, plain, 1.7f);
    converts<T, float>(plain, odd, 1.7f);
    converts<T, bf16>(odd, plain, 1.7f);
    converts<T, bf16>(plain, odd, 1.7f);
  }
}
TEST(Rows, AnyOperandMayLieBadly) {
  takes_odd_operands<float>();
  takes_odd_operands<bf16>();
}

TEST(Rows, NothingToDoIsNoFault) {
  EXPECT_EQ(kernels::gather_rows<float>(nullptr, 8, nullptr, 8, nullptr, 0, 8, nullptr), cudaSuccess);
  EXPECT_EQ(kernels::gather_rows<bf16>(nullptr, 0, nullptr, 0, nullptr, 3, 0, nullptr), cudaSuccess);
  EXPECT_EQ(kernels::scatter_rows<float>(nullptr, 8, nullptr, 8, nullptr, 0, 0, 8, nullptr), cudaSuccess);
  EXPECT_EQ(kernels::add<bf16>(nullptr, 8, nullptr, 8, nullptr, 8, 0, 8, nullptr), cudaSuccess);
  EXPECT_EQ((kernels::convert<bf16, float>(nullptr, 8, nullptr, 8, 0, 8, 1.0f, nullptr)), cudaSuccess);
}

TEST(Rows, MoreThanALaunchCanNumberIsRefused) {
  constexpr int64_t kHuge = (int64_t{1} << 50) + 4096;
  EXPECT_EQ((kernels::convert<bf16, float>(nullptr, kHuge, nullptr, kHuge, 1, kHuge, 1.0f, nullptr)),
            cudaErrorInvalidValue);
}

}  // namespace
}  // namespace phi3tune::kernel_test
