#include "fixture.h"

namespace phi3tune::ops::test {
namespace {

class Flat : public ByKernel {
 protected:
  void SetUp() override {
    ByKernel::SetUp();
    if (dtype() == at::kBFloat16) {
      GTEST_SKIP() << "flat buffers are of the wide dtypes";
    }
  }
};

const AdamWStep kStep{.learning_rate = 1e-2, .weight_decay = 0.1, .step = 1};
constexpr double kScale = 0.5;

at::Tensor control(double scale = 1.0, double halted = 0.0) { return at::tensor({scale, halted}, at::kDouble); }

// The norm alone, with no loss and no clipping.
double norm_of(const at::Tensor& gradients) {
  const at::Tensor norm = at::zeros({1}, at::kDouble);
  step_norm(control(), norm, at::zeros({0, 2}, at::kDouble),
            at::empty({(gradients.numel() + kNormBlock - 1) / kNormBlock}, at::kDouble), gradients, 0.0);
  return norm.item<double>();
}

TEST_P(Flat, AdamWHoldsToTheDefinitionOverSteps) {
  for (const int64_t n : {0, 1, 7, 8, 9, 31, 33, 40000}) {
    const Guarded p(normal({n}, dtype())), m(at::zeros({n}, dtype())), v(at::zeros({n}, dtype()));
    definition::AdamWState aten{p.tensor().clone(), m.tensor().clone(), v.tensor().clone()};
    definition::AdamWState exact{p.tensor().clone().to(at::kDouble), m.tensor().clone().to(at::kDouble),
                                 v.tensor().clone().to(at::kDouble)};
    for (AdamWStep step = kStep; step.step <= 4; ++step.step) {
      const at::Tensor g = normal({n}, dtype());
      adamw(p, g, m, v, {}, step, control(kScale));
      aten = definition::adamw(aten, g * kScale, step);
      exact = definition::adamw(exact, g.to(at::kDouble) * kScale, step);
    }
    expect_close(p, aten.parameters, exact.parameters);
    expect_close(m, aten.moment1, exact.moment1);
    expect_close(v, aten.moment2, exact.moment2);
    EXPECT_TRUE(p.intact() && m.intact() && v.intact()) << n;
  }
}

// torch.optim.AdamW is the definition's source; its fused form is in the library.
TEST_P(Flat, AdamWAgreesWithTorch) {
  const at::Tensor p = normal({100}, at::kDouble).to(dtype()), g = normal({100}, dtype());
  const at::Tensor m = normal({100}, dtype()).abs(), v = normal({100}, dtype()).abs();
  std::vector<at::Tensor> torch_p{p.clone()}, torch_g{g.clone()}, torch_m{m.clone()}, torch_v{v.clone()};
  const std::vector<at::Tensor> steps{at::scalar_tensor(7.0, at::kFloat)};
  const AdamWStep step{.learning_rate = 1e-2, .weight_decay = 0.1, .step = 7};
  at::_fused_adamw_(torch_p, torch_g, torch_m, torch_v, {}, steps, step.learning_rate, step.beta1, step.beta2,
                    step.weight_decay, step.epsilon, false, false);
  adamw(p, g, m, v, {}, step, control());
  const double tolerance = dtype() == at::kDouble ? 1e-12 : 1e-6;
  EXPECT_LE(relative_error(p, torch_p[0]), tolerance);
  EXPECT_LE(relative_error(m, torch_m[0]), tolerance);
  EXPECT_LE(relative_error(v, torch_v[0]), tolerance);
}

TEST_P(Flat, NormHoldsToFloat64) {
  for (const int64_t n : {0, 1, 7, 8, 9, 31, 33, 16384, 16385, 100003}) {
    const at::Tensor values = normal({n}, dtype());
    const double exact = values.to(at::kDouble).square().sum().item<double>();
    EXPECT_NEAR(norm_of(values), std::sqrt(exact), 1e-12 * std::sqrt(exact)) << n;
  }
}

TEST_P(Flat, NormHasTheSameBitsForAnyThreadsAndPlace) {
  const at::Tensor values = normal({200001}, dtype());
  const auto run = [&](int threads, int64_t offset) {
    const Threads scope(threads);
    return norm_of(Guarded(values, offset));
  };
  const double once = run(2, 0);
  EXPECT_EQ(once, run(1, 0));
  EXPECT_EQ(once, run(2, 3));
}

TEST_P(Flat, NormIsNotFiniteIfAnElementIsNot) {
  for (const double bad : {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                           std::numeric_limits<double>::quiet_NaN()}) {
    for (const int64_t place : {0, 17, 40000}) {
      at::Tensor values = normal({40001}, dtype());
      values[place] = bad;
      EXPECT_FALSE(std::isfinite(norm_of(values)));
    }
  }
}

TEST_P(Flat, AdamWHasTheSameBitsForAnyThreads) {
  const at::Tensor p = normal({100001}, dtype()), g = normal({100001}, dtype()), zero = at::zeros({100001}, dtype());
  const auto run = [&](int threads) {
    const Threads scope(threads);
    const at::Tensor out = p.clone();
    adamw(out, g, zero.clone(), zero.clone(), {}, kStep, control(kScale));
    return out;
  };
  EXPECT_TRUE(same_bits(run(1), run(2)));
}

// torch.nn.utils.clip_grad_norm_.
TEST_P(Flat, GradientsAreClippedToTheNorm) {
  const at::Tensor gradients = at::full({400}, 0.5, dtype());  // norm 10
  const at::Tensor norm = at::zeros({1}, at::kDouble), partials = at::empty({1}, at::kDouble);
  const at::Tensor losses = at::ones({2, 2}, at::kDouble), decided = control();
  for (const auto& [max_norm, scale] : {std::pair{1.0, 1.0 / (10.0 + 1e-6)}, {20.0, 1.0}, {0.0, 1.0}, {-1.0, 1.0}}) {
    step_norm(decided, norm, losses, partials, gradients, max_norm);
    EXPECT_NEAR(norm.item<double>(), 10.0, 1e-12);
    EXPECT_DOUBLE_EQ(decided[0].item<double>(), scale);
    EXPECT_EQ(decided[1].item<double>(), 0.0);
  }
}

TEST_P(Flat, ABadLossOrNormHaltsThisAndEveryLaterUpdate) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const bool loss_is_bad : {true, false}) {
    const at::Tensor norm = at::zeros({1}, at::kDouble), partials = at::empty({1}, at::kDouble), decided = control();
    at::Tensor losses = at::ones({3, 2}, at::kDouble), gradients = at::ones({9}, dtype());
    (loss_is_bad ? losses[2][0] : gradients[4]).fill_(nan);
    const at::Tensor p = at::ones({9}, dtype()), m = at::zeros({9}, dtype()), v = at::zeros({9}, dtype());
    const at::Tensor copy = at::zeros({9}, at::kBFloat16);
    step_norm(decided, norm, losses, partials, gradients, 1.0);
    adamw(p, gradients, m, v, copy, kStep, decided);
    step_norm(decided, norm, at::ones({1, 2}, at::kDouble), partials, at::ones({9}, dtype()), 1.0);
    EXPECT_EQ(decided[1].item<double>(), 1.0) << "the flag stays";
    adamw(p, at::ones({9}, dtype()), m, v, copy, kStep, decided);
    EXPECT_TRUE(p.eq(1.0).all().item<bool>() && m.eq(0.0).all().item<bool>() && v.eq(0.0).all().item<bool>());
    EXPECT_TRUE(copy.eq(0.0).all().item<bool>());
  }
}

TEST_P(Flat, TheCopyIsTheNewParametersRounded) {
  const at::Tensor p = normal({100}, dtype()), g = normal({100}, dtype()), copy = at::empty({100}, at::kBFloat16);
  adamw(p, g, at::zeros({100}, dtype()), at::zeros({100}, dtype()), copy, kStep, control());
  EXPECT_TRUE(same_bits(copy, p.to(at::kBFloat16)));
}

FOR_ALL_KERNELS(Flat);

TEST(Convert, RoundsToNearestEven) {
  const at::Tensor in = at::tensor({1.0, 1.0 + 0x1p-8, 1.0 + 3 * 0x1p-8, -1.0}, at::kFloat);
  const Guarded out({4}, at::kBFloat16);
  convert(out, in);
  EXPECT_TRUE(same_bits(out.tensor(), at::tensor({1.0, 1.0, 1.0 + 0x1p-6, -1.0}, at::kDouble).to(at::kBFloat16)));
  EXPECT_TRUE(out.intact());
  EXPECT_THROW(convert(out, at::ones({3}, at::kFloat)), InternalError);
}

}  // namespace
}  // namespace phi3tune::ops::test
