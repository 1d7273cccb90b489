// Losses, hits and gradients against float64, and against the CPU's kernel where a rule decides.
#include <algorithm>
#include <limits>

#include "kernels.h"
#include "matrix.h"
#include "ops/cpu/kernels.h"

namespace phi3tune::kernel_test {
namespace {

using kernels::bf16;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class T>
struct Batch {
  Shape shape;
  std::vector<T> logits;
  std::vector<int64_t> targets;
  std::vector<float> weights;
};

template <class T>
struct Results {
  std::vector<float> loss, correct;
  std::vector<T> logits;
};

constexpr double kScale = 1.0 / 37;

template <class T>
Results<T> run(const Batch<T>& batch, bool gradient) {
  const Buffer<int64_t> targets(batch.targets);
  const Buffer<float> weights(batch.weights);
  const auto rows = static_cast<size_t>(batch.shape.rows);
  auto [loss, correct, logits] = under_all_schedules([&] {
    const Buffer<T> d_logits(batch.logits, batch.shape.offset);
    const Buffer<float> d_loss(rows), d_correct(rows);
    EXPECT_EQ(kernels::cross_entropy(d_loss.data(), d_correct.data(), d_logits.data(), batch.shape.ld(), targets.data(),
                                     weights.data(), kScale, gradient, batch.shape.rows, batch.shape.cols, nullptr),
              cudaSuccess);
    return std::tuple(d_loss.download(), d_correct.download(), d_logits.download());
  });
  return {loss, correct, logits};
}

template <class T>
Batch<T> random_batch(const Shape& shape, double deviation) {
  Batch<T> batch{shape, random_matrix<T>(shape, deviation, 1), {}, {}};
  for (int64_t row = 0; row < shape.rows; ++row) {
    batch.targets.push_back(row == 0 ? shape.cols - 1 : row == 1 ? 0 : row * 7919 % shape.cols);
    batch.weights.push_back(row == 1 ? 0.0f : 0.5f + 0.25f * static_cast<float>(row));
  }
  return batch;
}

class EntropyShapes : public ::testing::TestWithParam<Shape> {};

template <class T>
void gives_loss_and_gradient(const Shape& shape) {
  auto batch = random_batch<T>(shape, 4.0);
  if (shape.rows > 2) {  // masked stretches: longer than a block's step where the row is, and its last columns
    const int64_t last = shape.cols - 1 - shape.cols / 8;
    for (int64_t col = 0; col < shape.cols; ++col)
      if ((col < shape.cols / 3 || col > last) && col != batch.targets[2])
        batch.logits[shape.at(2, col)] = rounded<T>(-kInfinity);
  }
  const Results<T> ours = run(batch, true);
  std::vector<double> losses, share_terms(shape.size());
  std::vector<double> gradients = in_fp64(batch.logits);  // NaN in the gaps
  for (int64_t row = 0; row < shape.rows; ++row) {
    const auto r = static_cast<size_t>(row);
    double largest = -kInfinity, sum = 0;
    for (int64_t col = 0; col < shape.cols; ++col) largest = std::max(largest, real(batch.logits[shape.at(row, col)]));
    for (int64_t col = 0; col < shape.cols; ++col) sum += std::exp(real(batch.logits[shape.at(row, col)]) - largest);
    const double at_target = real(batch.logits[shape.at(row, batch.targets[r])]);
    losses.push_back(std::log(sum) + largest - at_target);
    const double factor = batch.weights[r] * kScale;
    for (int64_t col = 0; col < shape.cols; ++col) {
      const double share = std::exp(real(batch.logits[shape.at(row, col)]) - largest) / sum;
      const bool target = col == batch.targets[r];
      gradients[shape.at(row, col)] = factor * (share - (target ? 1.0 : 0.0));
      // fp32 sums of some 80 terms and the argument of exp; share - 1 cancels
      share_terms[shape.at(row, col)] = factor * (1e-5 * share + (target ? 0x1p-23 : 0.0));
    }
    EXPECT_EQ(ours.correct[r], at_target == largest ? 1.0f : 0.0f) << "row " << row;
  }
  expect_rounded(ours.loss, losses, [&](size_t row) { return 1e-5 * std::max(1.0, losses[row]); });
  expect_rounded(ours.logits, gradients, [&](size_t i) { return share_terms[i]; });
}
TEST_P(EntropyShapes, GivesLossAndGradient) {
  gives_loss_and_gradient<float>(GetParam());
  gives_loss_and_gradient<bf16>(GetParam());
}
// One class; below, at and above a vector; multiples of 4 but not of 8; 7 mod 8; rows apart, also by whole vectors;
// pointers off their 16 bytes; a block's step and a bit more, for either width; the model's vocabulary.
INSTANTIATE_TEST_SUITE_P(Shapes, EntropyShapes,
                         ::testing::Values(Shape{1, 1}, Shape{3, 7}, Shape{2, 8}, Shape{3, 9}, Shape{3, 37},
                                           Shape{2, 132}, Shape{3, 264, 8}, Shape{3, 264, 5}, Shape{3, 37, 3},
                                           Shape{3, 264, 0, 1}, Shape{2, 511}, Shape{2, 4096}, Shape{2, 4104},
                                           Shape{2, 4108}, Shape{2, 5003}, Shape{3, 32064}));

template <class T>
void leaves_logits(const Shape& shape) {
  const auto batch = random_batch<T>(shape, 2.0);
  const Results<T> with = run(batch, true), without = run(batch, false);
  expect_bits(without.logits, batch.logits);
  expect_bits(without.loss, with.loss);
  expect_bits(without.correct, with.correct);
}
TEST(CrossEntropy, LeavesLogitsAloneWithoutGradient) {
  leaves_logits<float>({3, 40});
  leaves_logits<bf16>({3, 41, 3});
}

// Few distinct values: the largest logit occurs many times, before and behind the target.
template <class T>
void decides_ties(const Shape& shape) {
  Batch<T> batch{shape, {}, random_integers<int64_t>(static_cast<size_t>(shape.rows), 0, shape.cols - 1, 2), {}};
  batch.weights.assign(static_cast<size_t>(shape.rows), 1.0f);
  const auto values = random_integers<int64_t>(shape.size(), 0, 40, 3);
  batch.logits = matrix<T>(
      shape, [&](int64_t row, int64_t col) { return rounded<T>(static_cast<double>(values[shape.at(row, col)])); });
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int64_t target = batch.targets[static_cast<size_t>(row)];
    if (row % 4 != 0) batch.logits[shape.at(row, target)] = rounded<T>(row % 4 == 1 ? 41.0 : 40.0);
    if (row % 4 == 2)  // the target is the first of equals
      for (int64_t col = 0; col < target; ++col)
        batch.logits[shape.at(row, col)] = rounded<T>(std::min(39.0, real(batch.logits[shape.at(row, col)])));
    if (row % 4 == 3 && target > 0) batch.logits[shape.at(row, target - 1)] = rounded<T>(40.0);
  }
  const Results<T> ours = run(batch, false);
  std::vector<float> wanted;
  for (int64_t row = 0; row < shape.rows; ++row) {
    std::vector<float> logits;
    for (int64_t col = 0; col < shape.cols; ++col)
      logits.push_back(static_cast<float>(real(batch.logits[shape.at(row, col)])));
    double loss = 0, factor = 1;
    uint8_t correct = 0;
    ops::cpu::kKernelsPortable.f32.cross_entropy(
        logits.data(), &loss, &correct, &batch.targets[static_cast<size_t>(row)], &factor, 1, shape.cols, false);
    wanted.push_back(correct);
  }
  expect_bits(ours.correct, wanted);
  EXPECT_NE(std::count(wanted.begin(), wanted.end(), 0.0f), 0);
  EXPECT_NE(std::count(wanted.begin(), wanted.end(), 1.0f), 0);
}
TEST(CrossEntropy, OfEqualLogitsTheFirstIsTheGuess) {
  for (const Shape& shape : {Shape{24, 9}, Shape{12, 64}, Shape{8, 4200}}) {
    decides_ties<float>(shape);
    decides_ties<bf16>(shape);
  }
}

// Rows that have no finite loss must say so, and count hits as the CPU does.
TEST(CrossEntropy, NeverHidesWhatIsNotFinite) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  struct Case {
    const char* what;
    double others, first, fifth;  // every logit, then column 0 and column 5
    int64_t target;
  };
  const std::vector<Case> cases{{"NaN", 1, 0, nan, 0},
                                {"NaN at the target", 1, 0, nan, 5},
                                {"NaN among -inf", -kInfinity, -kInfinity, nan, 0},
                                {"NaN beside one finite logit", -kInfinity, 2, nan, 0},
                                {"nothing but NaN", nan, nan, nan, 3},
                                {"nothing but -inf, target first", -kInfinity, -kInfinity, -kInfinity, 0},
                                {"nothing but -inf, target behind", -kInfinity, -kInfinity, -kInfinity, 3},
                                {"+inf", 1, 0, kInfinity, 0},
                                {"+inf at the target", 1, 0, kInfinity, 5},
                                {"two of +inf", 1, kInfinity, kInfinity, 5},
                                {"-inf at the target", 1, 0, -kInfinity, 5}};
  for (const int64_t cols : {8, 11, 4500}) {
    const Shape shape{static_cast<int64_t>(cases.size()), cols};
    Batch<float> batch{shape, {}, {}, std::vector<float>(cases.size(), 1.0f)};
    for (const Case& c : cases) batch.targets.push_back(c.target);
    batch.logits = matrix<float>(shape, [&](int64_t row, int64_t col) {
      const Case& c = cases[static_cast<size_t>(row)];
      return static_cast<float>(col == 0 ? c.first : col == 5 ? c.fifth : c.others);
    });
    const Results<float> ours = run(batch, true);
    auto logits = batch.logits;
    std::vector<double> loss(cases.size()), factors(cases.size(), 1.0);
    std::vector<uint8_t> correct(cases.size());
    ops::cpu::kKernelsPortable.f32.cross_entropy(logits.data(), loss.data(), correct.data(), batch.targets.data(),
                                                 factors.data(), shape.rows, cols, false);
    for (size_t row = 0; row < cases.size(); ++row) {
      EXPECT_FALSE(std::isfinite(ours.loss[row])) << cases[row].what << ": " << ours.loss[row];
      EXPECT_FALSE(std::isfinite(loss[row])) << cases[row].what << ", the CPU's: " << loss[row];
      EXPECT_EQ(ours.correct[row], static_cast<float>(correct[row])) << cases[row].what;
    }
  }
}

// The lowest finite number is a logit like others.
TEST(CrossEntropy, TakesTheLowestNumbers) {
  const float lowest = std::numeric_limits<float>::lowest();
  Batch<float> batch{{1, 4}, {lowest, lowest, lowest, static_cast<float>(-kInfinity)}, {1}, {1.0f}};
  EXPECT_NEAR(run(batch, false).loss[0], std::log(3.0), 1e-6);
}

TEST(CrossEntropy, NothingToDoIsNoFault) {
  EXPECT_EQ(kernels::cross_entropy<bf16>(nullptr, nullptr, nullptr, 8, nullptr, nullptr, 1.0, true, 0, 8, nullptr),
            cudaSuccess);
  EXPECT_EQ(kernels::add_losses(nullptr, nullptr, nullptr, nullptr, 0, nullptr), cudaSuccess);
}

TEST(CrossEntropy, MoreThanALaunchCanNumberIsRefused) {
  constexpr int64_t kHuge = (int64_t{1} << 32) + 8;
  EXPECT_EQ(kernels::cross_entropy<bf16>(nullptr, nullptr, nullptr, 8, nullptr, nullptr, 1.0, true, kHuge, 8, nullptr),
            cudaErrorInvalidValue);
  EXPECT_EQ(
      kernels::cross_entropy<bf16>(nullptr, nullptr, nullptr, kHuge, nullptr, nullptr, 1.0, true, 1, kHuge, nullptr),
      cudaErrorInvalidValue);
}

// ---- the sums ----

class LossRows : public ::testing::TestWithParam<int64_t> {};
TEST_P(LossRows, AreAddedInFloat64) {
  const auto rows = static_cast<size_t>(GetParam());
  const auto loss = random_values<float>(rows, 3.0, 4), weights = random_values<float>(rows, 1.0, 5);
  const auto correct = random_integers<float>(rows, 0, 1, 6);
  const Buffer<float> d_loss(loss), d_weights(weights), d_correct(correct);
  const auto sums = under_all_schedules([&] {
    const Buffer<double> d_sums(std::vector<double>{0.125, 3.0});
    for (int i = 0; i < 2; ++i)
      EXPECT_EQ(
          kernels::add_losses(d_sums.data(), d_loss.data(), d_correct.data(), d_weights.data(), GetParam(), nullptr),
          cudaSuccess);
    return d_sums.download();
  });
  long double exact = 0.0625, magnitude = 1;
  double hits = 1.5;
  for (size_t row = 0; row < rows; ++row) {
    exact += static_cast<long double>(weights[row]) * loss[row];
    magnitude += std::abs(static_cast<long double>(weights[row]) * loss[row]);
    hits += correct[row];
  }
  EXPECT_NEAR(sums[0], static_cast<double>(2 * exact), 1e-15 * static_cast<double>(magnitude) * 30);
  EXPECT_EQ(sums[1], 2 * hits);
}
INSTANTIATE_TEST_SUITE_P(Rows, LossRows, ::testing::Values(1, 31, 32, 255, 256, 257, 1000, 4099));

TEST(AddLosses, KeepsNaN) {
  std::vector<float> loss(500, 1.0f);
  loss[499] = std::numeric_limits<float>::quiet_NaN();
  const Buffer<float> d_loss(loss), ones(std::vector<float>(500, 1.0f));
  const Buffer<double> sums(std::vector<double>{0.0, 0.0});
  ASSERT_EQ(kernels::add_losses(sums.data(), d_loss.data(), ones.data(), ones.data(), 500, nullptr), cudaSuccess);
  EXPECT_TRUE(std::isnan(sums.download()[0]));
  EXPECT_EQ(sums.download()[1], 500.0);
}

}  // namespace
}  // namespace phi3tune::kernel_test
