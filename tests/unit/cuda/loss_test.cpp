#include <cmath>

#include "fixture.h"

namespace phi3tune::cuda::test {
namespace {

class Loss : public ByDtype {};

TEST_P(Loss, SumsAndGradientAreTheDefinition) {
  for (const int64_t vocabulary : {2, 77, 512}) {
    const int64_t rows = 6;
    const Tensor logits = normal({rows, vocabulary}, dtype(), 3.0);
    const Tensor targets = at::randint(vocabulary, {rows}, at::kLong);
    targets[5] = vocabulary - 1;
    const Tensor weights = at::rand({rows}, at::kFloat);
    weights[2] = 0.0;
    const auto loss = [&](const Tensor& in) {
      return ops::definition::cross_entropy(in, targets, weights.to(at::kDouble));
    };
    const Tensor exact = exactly(logits);
    const int64_t correct = logits.argmax(1).eq(targets).sum().item<int64_t>();

    const Guarded row_losses({2, rows + 3}, at::kFloat);
    const Tensor sums = at::tensor({10.0, 1.0}, at::kDouble);
    const Guarded untouched(logits);
    ops::cross_entropy(sums, row_losses, untouched, targets, weights, 0.5, false);
    EXPECT_TRUE(same_bits(untouched, logits));
    EXPECT_NEAR(sums[0].item<double>() - 10.0, loss(exact).item<double>(), 1e-5 * loss(exact).item<double>());
    EXPECT_EQ(sums[1].item<double>() - 1.0, static_cast<double>(correct));

    const Guarded overwritten(logits);
    ops::cross_entropy(sums, row_losses, overwritten, targets, weights, 0.5, true);
    const auto gradient = [&](at::ScalarType type) {
      return gradients(
          [&](const auto& in) {
            return ops::definition::cross_entropy(in[0], targets, weights.to(type == at::kDouble ? type : at::kFloat));
          },
          {logits.to(type)}, at::scalar_tensor(0.5, type == at::kDouble ? type : at::kFloat))[0];
    };
    expect_close(overwritten, gradient(dtype()), gradient(at::kDouble));
    EXPECT_NEAR(sums[0].item<double>() - 10.0, 2 * loss(exact).item<double>(), 2e-5 * loss(exact).item<double>());
    EXPECT_TRUE(untouched.intact() && overwritten.intact() && row_losses.intact());
  }
}

TEST_P(Loss, NoRowsAddNothing) {
  const Tensor sums = at::tensor({1.0, 2.0}, at::kDouble);
  ops::cross_entropy(sums, at::empty({2, 4}, at::kFloat), at::empty({0, 32}, dtype()), at::empty({0}, at::kLong),
                     at::empty({0}, at::kFloat), 1.0, true);
  EXPECT_EQ(sums[0].item<double>(), 1.0);
  EXPECT_EQ(sums[1].item<double>(), 2.0);
}

FOR_BOTH_DTYPES(Loss);

}  // namespace
}  // namespace phi3tune::cuda::test
