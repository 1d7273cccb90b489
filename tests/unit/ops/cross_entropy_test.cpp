#include "fixture.h"

namespace phi3tune::ops::test {
namespace {

struct Sums {
  double weighted_loss;
  int64_t correct;
};
// From sums that are not zero, as those of a second chunk: what was added.
Sums take(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights, double scale, bool gradient) {
  const at::Tensor sums = at::tensor({8.0, 3.0}, at::kDouble);
  const at::Tensor row_losses = at::empty({2, logits.size(0) + 1}, weights.options());
  cross_entropy(sums, row_losses, logits, targets, weights, scale, gradient);
  return {sums[0].item<double>() - 8.0, static_cast<int64_t>(sums[1].item<double>()) - 3};
}

class CrossEntropy : public ByKernel {
 protected:
  at::Tensor some_weights(int64_t rows) { return at::rand({rows}, at::kDouble).add(0.25).to(wide()); }
};

TEST_P(CrossEntropy, LossHoldsToTheDefinition) {
  for (const int64_t vocabulary : {1, 7, 8, 9, 31, 33, 1000}) {
    for (const int64_t rows : {0, 1, 6}) {
      const at::Tensor logits = normal({rows, vocabulary}, dtype(), 5.0), weights = some_weights(rows);
      const at::Tensor targets = at::randint(vocabulary, {rows}, at::kLong);
      const Guarded given(logits);
      const Sums sums = take(given, targets, weights, 1.0, false);
      const auto loss = [&](at::ScalarType type) {
        return definition::cross_entropy(logits.to(type), targets, weights.to(wide_dtype(type))).item<double>();
      };
      const double exact = loss(at::kDouble);
      // float32 softmax: a few roundings of the largest logit, whatever the logits' own dtype.
      const double tolerance = dtype() == at::kDouble ? 1e-9 : 4e-6;
      EXPECT_NEAR(sums.weighted_loss, exact, tolerance * std::max(1.0, std::abs(exact)));
      if (rows > 0) {
        EXPECT_EQ(sums.correct, logits.argmax(1).eq(targets).sum().item<int64_t>());
      }
      EXPECT_TRUE(same_bits(given.tensor(), logits)) << "the loss alone must leave the logits";
      EXPECT_TRUE(given.intact());
    }
  }
}

TEST_P(CrossEntropy, GradientIsThatOfAutogradAndDoesNotMoveTheLoss) {
  for (const int64_t vocabulary : {1, 7, 8, 9, 31, 33, 1000}) {
    const at::Tensor logits = normal({6, vocabulary}, dtype(), 3.0), weights = some_weights(6);
    const at::Tensor targets = at::randint(vocabulary, {6}, at::kLong);
    const Guarded gradient(logits);
    const Sums without = take(gradient, targets, weights, 0.125, false);
    const Sums with = take(gradient, targets, weights, 0.125, true);
    EXPECT_EQ(with.weighted_loss, without.weighted_loss);
    const auto by_autograd = [&](at::ScalarType type) {
      return gradients(
          [&](const auto& in) { return definition::cross_entropy(in[0], targets, weights.to(wide_dtype(type))); },
          {logits.to(type)}, at::scalar_tensor(0.125, wide_dtype(type)))[0];
    };
    expect_close(gradient, by_autograd(dtype()), by_autograd(at::kDouble));
    EXPECT_TRUE(gradient.intact()) << vocabulary;
  }
}

TEST_P(CrossEntropy, OfEqualLogitsTheFirstIsTheAnswer) {
  at::Tensor logits = at::zeros({2, 40}, dtype());
  logits.narrow(1, 20, 10).fill_(2.0);
  const at::Tensor targets = at::tensor({20, 21}, at::kLong);
  EXPECT_EQ(take(logits, targets, at::ones({2}, wide()), 1.0, false).correct, 1);
}

TEST_P(CrossEntropy, LargeLogitsDoNotOverflow) {
  at::Tensor logits = at::full({1, 40}, -3e4, dtype());
  logits[0][3] = 3e4;
  const at::Tensor targets = at::tensor({3}, at::kLong);
  EXPECT_NEAR(take(logits, targets, at::ones({1}, wide()), 1.0, false).weighted_loss, 0.0, 1e-12);
  EXPECT_GT(take(logits, at::tensor({4}, at::kLong), at::ones({1}, wide()), 1.0, false).weighted_loss, 5e4);
}

TEST_P(CrossEntropy, NotANumberReachesTheLoss) {
  at::Tensor logits = normal({1, 77}, dtype());
  logits[0][76] = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor targets = at::tensor({3}, at::kLong);
  EXPECT_TRUE(std::isnan(take(logits, targets, at::ones({1}, wide()), 1.0, false).weighted_loss));
}

TEST_P(CrossEntropy, SameBitsForAnyThreads) {
  const at::Tensor logits = normal({64, 1003}, dtype()), weights = some_weights(64);
  const at::Tensor targets = at::randint(1003, {64}, at::kLong);
  const auto run = [&](int threads) {
    const Threads scope(threads);
    at::Tensor gradient = logits.clone();
    const double loss = take(gradient, targets, weights, 1.0, true).weighted_loss;
    return std::pair(loss, gradient);
  };
  const auto [loss1, gradient1] = run(1);
  const auto [loss2, gradient2] = run(2);
  EXPECT_EQ(loss1, loss2);
  EXPECT_TRUE(same_bits(gradient1, gradient2));
}

TEST_P(CrossEntropy, TargetOutsideTheVocabularyIsABugOfOurs) {
  const at::Tensor logits = normal({1, 5}, dtype());
  EXPECT_THROW(take(logits, at::tensor({5}, at::kLong), at::ones({1}, wide()), 1.0, true), InternalError);
  EXPECT_THROW(take(logits, at::tensor({-100}, at::kLong), at::ones({1}, wide()), 1.0, true), InternalError);
}

FOR_ALL_KERNELS(CrossEntropy);

}  // namespace
}  // namespace phi3tune::ops::test
