#include <cmath>

#include "fixture.h"

namespace phi3tune::cuda::test {
namespace {

class Optimizer : public OnDevice {
 protected:
  struct Decision {
    double factor, halted, norm;
  };
  static Decision decide(const Tensor& gradients, const Tensor& losses, double max_norm, double halted_before = 0.0) {
    const Guarded control(at::tensor({7.0, halted_before}, at::kDouble)), norm({1}, at::kDouble);
    const Guarded partials({(gradients.numel() + ops::kNormBlock - 1) / ops::kNormBlock}, at::kDouble);
    ops::step_norm(control, norm, losses, partials, gradients, max_norm);
    EXPECT_TRUE(control.intact() && norm.intact() && partials.intact());
    return {control.tensor()[0].item<double>(), control.tensor()[1].item<double>(), norm.tensor()[0].item<double>()};
  }
  static Tensor losses() { return at::tensor({3.0, 1.0, 2.5, 0.0}, at::kDouble).view({2, 2}); }
};

TEST_F(Optimizer, TheNormIsThatOfAllGradients) {
  for (const int64_t n : {int64_t{1}, int64_t{1000}, ops::kNormBlock, 2 * ops::kNormBlock + 77}) {
    const Tensor gradients = normal({n}, at::kFloat);
    const double exact = exactly(gradients).norm().item<double>();
    const auto clipped = decide(gradients, losses(), 0.5 * exact);
    EXPECT_NEAR(clipped.norm, exact, 1e-12 * exact);
    EXPECT_NEAR(clipped.factor, 0.5 * exact / (exact + 1e-6), 1e-9);
    EXPECT_EQ(clipped.halted, 0.0);
    EXPECT_EQ(decide(gradients, losses(), 2.0 * exact).factor, 1.0);
    EXPECT_EQ(decide(gradients, losses(), 0.0).factor, 1.0);
  }
}

TEST_F(Optimizer, ABadStepHaltsAllThatFollow) {
  const Tensor good = normal({100}, at::kFloat);
  const Tensor bad = good.clone();
  bad[50] = std::nan("");
  const Tensor bad_losses = losses().clone();
  bad_losses[1][0] = INFINITY;
  EXPECT_EQ(decide(bad, losses(), 1.0).halted, 1.0);
  EXPECT_EQ(decide(good, bad_losses, 1.0).halted, 1.0);
  EXPECT_EQ(decide(good, losses(), 1.0, /*halted_before=*/1.0).halted, 1.0);
}

TEST_F(Optimizer, AdamWIsTheDefinition) {
  for (const int64_t n : {1, 7, 300, 5000}) {
    for (const at::ScalarType copies : {at::kFloat, at::kBFloat16}) {
      ops::definition::AdamWState state{normal({n}, at::kFloat), normal({n}, at::kFloat, 0.1),
                                        normal({n}, at::kFloat, 0.1).square()};
      const Tensor gradients = normal({n}, at::kFloat);
      const ops::AdamWStep step{.learning_rate = 1e-2, .weight_decay = 0.1, .step = 3};
      const Tensor control = at::tensor({0.5, 0.0}, at::kDouble);
      const auto exact = ops::definition::adamw(
          {exactly(state.parameters), exactly(state.moment1), exactly(state.moment2)}, exactly(gradients) * 0.5, step);
      const auto aten = ops::definition::adamw(state, gradients * 0.5, step);
      const Guarded p(state.parameters), m(state.moment1), v(state.moment2), copy({n}, copies);
      ops::adamw(p, gradients, m, v, copy, step, control);
      expect_close(p, aten.parameters, exact.parameters);
      expect_close(m, aten.moment1, exact.moment1);
      expect_close(v, aten.moment2, exact.moment2);
      EXPECT_TRUE(same_bits(copy, p.tensor().to(copies)));
      EXPECT_TRUE(p.intact() && m.intact() && v.intact() && copy.intact());
    }
  }
}

TEST_F(Optimizer, NothingMovesAfterABadStep) {
  const Tensor before = normal({300}, at::kFloat);
  const Guarded p(before), m(before), v(before), copy(before.to(at::kBFloat16));
  ops::adamw(p, normal({300}, at::kFloat), m, v, copy, {.learning_rate = 1.0}, at::tensor({1.0, 1.0}, at::kDouble));
  EXPECT_TRUE(same_bits(p, before) && same_bits(m, before) && same_bits(v, before));
  EXPECT_TRUE(same_bits(copy, before.to(at::kBFloat16)));
}

}  // namespace
}  // namespace phi3tune::cuda::test
