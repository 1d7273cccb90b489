// RMSNorm as transformers' Phi3RMSNorm: statistics in fp32, x * rstd rounded to the compute dtype before the weight.
#include "kernel_test.h"
#include "kernels.h"
#include "rows.h"

namespace phi3tune::kernels {
namespace {

using namespace kernel_test;

constexpr float kEps = 1e-5F;

enum Matrix { kX, kY, kWeight, kDelta, kSum, kDx, kDy, kNone };

struct Case {
  int64_t rows, dim;
  int64_t gap = 0;         // elements between the rows of x, y, dx and dy
  size_t offset = 0;       // elements before each matrix
  double deviation = 2.0;  // of x
  int misplaced = kNone;   // the matrix that lies one element further than the others
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.rows << "x" << c.dim << " gap " << c.gap << " offset " << c.offset << " deviation " << c.deviation
       << " misplaced " << c.misplaced;
}
size_t offset(const Case& c, Matrix matrix) { return c.offset + (c.misplaced == matrix ? 1 : 0); }
size_t count(const Case& c) { return static_cast<size_t>(c.rows * c.dim); }

std::vector<double> exact_rstd(const std::vector<double>& x, int64_t dim) {
  std::vector<double> rstd;
  for (size_t begin = 0; begin < x.size(); begin += static_cast<size_t>(dim)) {
    double sum = 0;
    for (size_t i = begin; i < begin + static_cast<size_t>(dim); ++i) sum += x[i] * x[i];
    rstd.push_back(1 / std::sqrt(sum / static_cast<double>(dim) + kEps));
  }
  return rstd;
}

// Given rstd, every bit of y is fixed: one rounding to fp32 and one to T, twice.
template <class T>
std::vector<T> normed(const std::vector<T>& x, const std::vector<float>& rstd, const std::vector<T>& weight) {
  std::vector<T> y;
  for (size_t i = 0; i < x.size(); ++i) {
    const float product = static_cast<float>(real(x[i])) * rstd[i / weight.size()];
    const float scaled =
        static_cast<float>(real(weight[i % weight.size()])) * static_cast<float>(real(rounded<T>(product)));
    y.push_back(rounded<T>(scaled));
  }
  return y;
}

template <class T>
void expect_norm(const std::vector<T>& y, const std::vector<float>& rstd, const std::vector<T>& x,
                 const std::vector<T>& weight, const Case& c) {
  const auto exact = exact_rstd(in_fp64(x), c.dim);
  // A thread adds up to 70 squares, then 5 + 8 partial sums follow: below 83 roundings of 2^-24, halved by the root.
  expect_rounded(rstd, exact, [&](size_t i) { return exact[i] * 40 * 0x1p-24; });
  std::vector<T> got = gathered(y, c.rows, c.dim, c.dim + c.gap);
  expect_bits(got, normed(x, rstd, weight));
  expect_bits(y, spread(got, c.dim, c.dim + c.gap));  // nothing between the rows
}

template <class T>
void norms(const Case& c) {
  const int64_t ld = c.dim + c.gap;
  const auto x = random_values<T>(count(c), c.deviation, 1),
             weight = random_values<T>(static_cast<size_t>(c.dim), 1.0, 2);
  const Buffer<T> d_x(spread(x, c.dim, ld), offset(c, kX)), d_weight(weight, offset(c, kWeight));
  const auto [y, rstd] = under_all_schedules([&] {
    const Buffer<T> d_y(d_x.size(), offset(c, kY));
    const Buffer<float> d_rstd(static_cast<size_t>(c.rows));
    EXPECT_EQ(rms_norm(d_y.data(), ld, d_rstd.data(), d_x.data(), ld, d_weight.data(), c.rows, c.dim, kEps, nullptr),
              cudaSuccess);
    return std::tuple(d_y.download(), d_rstd.download());
  });
  expect_norm(y, rstd, x, weight, c);
}

enum class SumIs { kItsOwn, kResidual, kDelta };

template <class T>
void adds_and_norms(const Case& c, SumIs place) {
  const int64_t ld = c.dim + c.gap;
  const auto residual = random_values<T>(count(c), c.deviation, 3), delta = random_values<T>(count(c), 0.7, 4);
  const auto weight = random_values<T>(static_cast<size_t>(c.dim), 1.0, 5);
  std::vector<T> wanted_sum;
  for (size_t i = 0; i < residual.size(); ++i) wanted_sum.push_back(rounded<T>(real(residual[i]) + real(delta[i])));
  const Buffer<T> d_weight(weight, offset(c, kWeight));
  const auto [y, rstd, sum] = under_all_schedules([&] {
    const Buffer<T> d_y(static_cast<size_t>((c.rows - 1) * ld + c.dim), offset(c, kY)),
        d_own(count(c), offset(c, kSum));
    const Buffer<T> d_residual(residual, offset(c, kX)), d_delta(delta, offset(c, kDelta));
    const Buffer<float> d_rstd(static_cast<size_t>(c.rows));
    const Buffer<T>& d_sum = place == SumIs::kItsOwn ? d_own : place == SumIs::kResidual ? d_residual : d_delta;
    EXPECT_EQ(add_rms_norm(d_y.data(), ld, d_rstd.data(), d_sum.data(), d_residual.data(), d_delta.data(),
                           d_weight.data(), c.rows, c.dim, kEps, nullptr),
              cudaSuccess);
    if (place == SumIs::kItsOwn) {
      expect_bits(d_residual.download(), residual);
      expect_bits(d_delta.download(), delta);
    }
    return std::tuple(d_y.download(), d_rstd.download(), d_sum.download());
  });
  expect_bits(sum, wanted_sum);
  expect_norm(y, rstd, sum, weight, c);
}

template <class T>
void goes_back(const Case& c) {
  const int64_t ld = c.dim + c.gap;
  const auto dim = static_cast<size_t>(c.dim);
  const auto x = random_values<T>(count(c), c.deviation, 6), dy = random_values<T>(count(c), 1.0, 7);
  const auto dx = random_values<T>(count(c), 0.5, 8), weight = random_values<T>(dim, 1.0, 9);
  std::vector<float> rstd;
  for (const double value : exact_rstd(in_fp64(x), c.dim)) rstd.push_back(static_cast<float>(value));
  std::vector<double> exact, terms;
  for (size_t row = 0; row < static_cast<size_t>(c.rows); ++row) {
    const double factor = rstd[row];
    double dot = 0, size = 0;
    for (size_t i = 0; i < dim; ++i) {
      const double product = real(weight[i]) * real(dy[row * dim + i]) * real(x[row * dim + i]);
      dot += product;
      size += std::abs(product);
    }
    for (size_t i = 0; i < dim; ++i) {
      const size_t at = row * dim + i;
      const double across = factor * real(weight[i]) * real(dy[at]);
      const double along = factor * factor * factor * real(x[at]) / static_cast<double>(dim);
      exact.push_back(real(dx[at]) + across - along * dot);
      // Six roundings of each term, and of the sum 83 (as above) of the sum of magnitudes.
      terms.push_back(0x1p-24 * (6 * std::abs(across) + std::abs(along) * (6 * std::abs(dot) + 83 * size) +
                                 std::abs(real(dx[at]))));
    }
  }
  const Buffer<T> d_dy(spread(dy, c.dim, ld), offset(c, kDy)), d_x(spread(x, c.dim, ld), offset(c, kX));
  const Buffer<T> d_weight(weight, offset(c, kWeight));
  const Buffer<float> d_rstd(rstd);
  const auto ours = under_all_schedules([&] {
    const Buffer<T> d_dx(spread(dx, c.dim, ld), offset(c, kDx));
    EXPECT_EQ(rms_norm_backward(d_dx.data(), ld, d_dy.data(), ld, d_x.data(), ld, d_rstd.data(), d_weight.data(),
                                c.rows, c.dim, nullptr),
              cudaSuccess);
    return d_dx.download();
  });
  const auto got = gathered(ours, c.rows, c.dim, ld);
  expect_rounded(got, exact, [&](size_t i) { return terms[i]; });
  expect_bits(ours, spread(got, c.dim, ld));
}

class RmsNorm : public ::testing::TestWithParam<Case> {};
TEST_P(RmsNorm, IsTheDefinitionInBfloat16) { norms<bf16>(GetParam()); }
TEST_P(RmsNorm, IsTheDefinitionInFloat32) { norms<float>(GetParam()); }
TEST_P(RmsNorm, AddsFirstInBfloat16) { adds_and_norms<bf16>(GetParam(), SumIs::kItsOwn); }
TEST_P(RmsNorm, AddsFirstInFloat32) { adds_and_norms<float>(GetParam(), SumIs::kItsOwn); }
TEST_P(RmsNorm, AddsInPlaceOfTheResidual) { adds_and_norms<bf16>(GetParam(), SumIs::kResidual); }
TEST_P(RmsNorm, AddsInPlaceOfTheDelta) { adds_and_norms<bf16>(GetParam(), SumIs::kDelta); }
TEST_P(RmsNorm, BackwardAddsToTheGradientInBfloat16) { goes_back<bf16>(GetParam()); }
TEST_P(RmsNorm, BackwardAddsToTheGradientInFloat32) { goes_back<float>(GetParam()); }

// Around the vectors, one vector for each of the 256 threads and around it, rows too long for shared memory.
INSTANTIATE_TEST_SUITE_P(Sizes, RmsNorm,
                         ::testing::Values(Case{1, 1}, Case{3, 3}, Case{3, 4}, Case{3, 7}, Case{2, 8}, Case{2, 9},
                                           Case{5, 264}, Case{2, 1023}, Case{2, 1024}, Case{2, 1036}, Case{2, 2047},
                                           Case{2, 2048}, Case{2, 2056}, Case{3, 3072}, Case{2, 5120}, Case{1, 17920},
                                           Case{1, 24584}));
INSTANTIATE_TEST_SUITE_P(Distances, RmsNorm,
                         ::testing::Values(Case{3, 64, 16}, Case{3, 3072, 16}, Case{3, 64, 4}, Case{3, 64, 3},
                                           Case{3, 63, 1}));
INSTANTIATE_TEST_SUITE_P(Addresses, RmsNorm,
                         ::testing::Values(Case{2, 64, 0, 1}, Case{2, 64, 8, 4}, Case{2, 64, 0, 0, 2, kX},
                                           Case{2, 64, 0, 0, 2, kY}, Case{2, 64, 0, 0, 2, kWeight},
                                           Case{2, 64, 0, 0, 2, kDelta}, Case{2, 64, 0, 0, 2, kSum},
                                           Case{2, 64, 0, 0, 2, kDx}, Case{2, 64, 0, 0, 2, kDy}));
// Where eps is all of the mean, and where squares are large.
INSTANTIATE_TEST_SUITE_P(Magnitudes, RmsNorm,
                         ::testing::Values(Case{2, 264, 0, 0, 1e-4}, Case{2, 264, 0, 0, 0.0},
                                           Case{2, 264, 0, 0, 1e15}));

TEST(RmsNormLaunch, NoRowsAreNoLaunch) {
  float* none = nullptr;
  EXPECT_EQ(rms_norm(none, 8, none, none, 8, none, 0, 8, kEps, nullptr), cudaSuccess);
  EXPECT_EQ(add_rms_norm(none, 8, none, none, none, none, none, 0, 8, kEps, nullptr), cudaSuccess);
  EXPECT_EQ(rms_norm_backward(none, 8, none, 8, none, 8, none, none, 0, 8, nullptr), cudaSuccess);
}

}  // namespace
}  // namespace phi3tune::kernels
