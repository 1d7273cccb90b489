// The optimizer's step: the update to the bit of the CPU's plain float32 kernel, the norm in float64.
#include <limits>

#include "kernel_test.h"
#include "kernels.h"
#include "ops/cpu/kernels.h"

namespace phi3tune::kernel_test {
namespace {

using kernels::bf16;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// ---- the update ----

// Step 7 of a run with weight decay.
const kernels::AdamWConstants kConstants{1.0 - 2e-4 * 0.1,
                                         1.0 - 0.9,
                                         0.999,
                                         1.0 - 0.999,
                                         1.0 / std::sqrt(1.0 - std::pow(0.999, 7)),
                                         1e-8,
                                         2e-4 / (1.0 - std::pow(0.9, 7))};

struct State {
  std::vector<float> p, g, m, v;

  explicit State(size_t n)
      : p(random_values<float>(n, 0.05, 1)),
        g(random_values<float>(n, 1e-3, 2)),
        m(random_values<float>(n, 1e-4, 3)),
        v(random_values<float>(n, 1e-6, 4)) {
    for (size_t i = 0; i < n; ++i) {
      v[i] = std::abs(v[i]);
      if (i % 7 == 3) g[i] = m[i] = v[i] = 0.0f;  // never touched
      if (i % 11 == 5) g[i] *= 1e-18f;            // its square is a denormal
    }
  }
};

struct Size {
  int64_t n;
  size_t offset = 0, copy_offset = 0;
};
void PrintTo(const Size& size, std::ostream* out) {
  *out << size.n << " offset " << size.offset << ", copy " << size.copy_offset;
}

auto update(const State& state, const Size& size, bool copied, const std::vector<double>& control) {
  const Buffer<double> d_control(control);
  const Buffer<float> g(state.g, size.offset);
  return under_all_schedules([&] {
    const Buffer<float> p(state.p, size.offset), m(state.m, size.offset), v(state.v, size.offset);
    const Buffer<bf16> copy(state.p.size(), size.copy_offset);
    EXPECT_EQ(kernels::adamw(p.data(), g.data(), m.data(), v.data(), copied ? copy.data() : nullptr, size.n, kConstants,
                             d_control.data(), nullptr),
              cudaSuccess);
    return std::tuple(p.download(), m.download(), v.download(), copy.download());
  });
}

class AdamWSizes : public ::testing::TestWithParam<Size> {};
TEST_P(AdamWSizes, GivesTheBitsOfTheCpusKernel) {
  const Size& size = GetParam();
  State state(static_cast<size_t>(size.n));
  const double scale = 0.37;
  for (const bool copied : {true, false}) {
    const auto [p, m, v, copy] = update(state, size, copied, {scale, 0.0});
    State wanted = state;
    const double constants[8] = {kConstants.decay,
                                 kConstants.one_minus_beta1,
                                 kConstants.beta2,
                                 kConstants.one_minus_beta2,
                                 kConstants.inverse_sqrt_correction2,
                                 kConstants.epsilon,
                                 kConstants.rate,
                                 scale};
    ops::cpu::kKernelsPortable.adamw_f32(wanted.p.data(), wanted.g.data(), wanted.m.data(), wanted.v.data(), size.n,
                                         constants);
    expect_bits(p, wanted.p);
    expect_bits(m, wanted.m);
    expect_bits(v, wanted.v);
    std::vector<bf16> rounded_p(state.p.size());
    std::memset(static_cast<void*>(rounded_p.data()), 0xff, rounded_p.size() * sizeof(bf16));
    for (size_t i = 0; copied && i < rounded_p.size(); ++i) rounded_p[i] = rounded<bf16>(wanted.p[i]);
    expect_bits(copy, rounded_p);
  }
}
// Around a vector and a block of either variant; pointers off their 16 bytes, and a copy off its 8.
INSTANTIATE_TEST_SUITE_P(Sizes, AdamWSizes,
                         ::testing::Values(Size{1}, Size{3}, Size{4}, Size{5}, Size{8}, Size{255}, Size{257},
                                           Size{1020}, Size{1024}, Size{1028}, Size{5007}, Size{8192, 1},
                                           Size{8192, 4, 2}, Size{8192, 0, 4}, Size{20000, 4}));

// Vectors want every pointer to allow them.
TEST(AdamW, AnyBufferMayLieBadly) {
  const State state(64);
  const Buffer<double> control(std::vector<double>{1.0, 0.0});
  const auto updated = [&](size_t p_offset, size_t g_offset, size_t m_offset, size_t v_offset, size_t copy_offset) {
    const Buffer<float> p(state.p, p_offset), g(state.g, g_offset), m(state.m, m_offset), v(state.v, v_offset);
    const Buffer<bf16> copy(64, copy_offset);
    EXPECT_EQ(
        kernels::adamw(p.data(), g.data(), m.data(), v.data(), copy.data(), 64, kConstants, control.data(), nullptr),
        cudaSuccess);
    return std::tuple(p.download(), m.download(), v.download(), copy.download());
  };
  const auto wanted = updated(0, 0, 0, 0, 0);
  EXPECT_TRUE(same_bits(updated(1, 0, 0, 0, 0), wanted));
  EXPECT_TRUE(same_bits(updated(0, 1, 0, 0, 0), wanted));
  EXPECT_TRUE(same_bits(updated(0, 0, 1, 0, 0), wanted));
  EXPECT_TRUE(same_bits(updated(0, 0, 0, 1, 0), wanted));
  EXPECT_TRUE(same_bits(updated(0, 0, 0, 0, 1), wanted));
}

// Torch's definition with no moments yet, in float64.
TEST(AdamW, IsTorchsDefinition) {
  State state(1000);
  std::fill(state.m.begin(), state.m.end(), 0.0f);
  std::fill(state.v.begin(), state.v.end(), 0.0f);
  const double lr = 1e-3, decay = 0.01, beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  const kernels::AdamWConstants constants{
      1.0 - lr * decay, 1.0 - beta1, beta2, 1.0 - beta2, 1.0 / std::sqrt(1.0 - beta2), eps, lr / (1.0 - beta1)};
  const Buffer<float> p(state.p), g(state.g), m(state.m), v(state.v);
  const Buffer<double> control(std::vector<double>{1.0, 0.0});
  ASSERT_EQ(kernels::adamw(p.data(), g.data(), m.data(), v.data(), nullptr, 1000, constants, control.data(), nullptr),
            cudaSuccess);
  std::vector<double> exact;
  for (size_t i = 0; i < state.p.size(); ++i) {
    const double gradient = state.g[i];  // the first step: both moments are corrected to the gradient and its square
    exact.push_back(state.p[i] * (1.0 - lr * decay) - lr * gradient / (std::abs(gradient) + eps));
  }
  // Half a dozen fp32 operations on a step of at most lr; a square that is a denormal keeps few bits.
  expect_rounded(p.download(), exact, [&](size_t i) { return i % 11 == 5 ? lr : 8 * 0x1p-24 * (lr + 0.2); });
}

TEST(AdamW, WritesNothingOnceHalted) {
  State state(3000);
  state.g[17] = std::numeric_limits<float>::quiet_NaN();
  for (const Size& size : {Size{3000}, Size{3000, 1}}) {
    const auto [p, m, v, copy] = update(state, size, true, {1.0, 1.0});
    expect_bits(p, state.p);
    expect_bits(m, state.m);
    expect_bits(v, state.v);
    std::vector<bf16> untouched(state.p.size());
    std::memset(static_cast<void*>(untouched.data()), 0xff, untouched.size() * sizeof(bf16));
    expect_bits(copy, untouched);
  }
}

// ---- the norm ----

struct Decision {
  std::vector<double> control, norm, partials;
};

Decision decide(const std::vector<float>& gradients, size_t offset, double max_norm, const std::vector<double>& losses,
                double halted = 0.0) {
  const auto n = static_cast<int64_t>(gradients.size());
  const Buffer<float> g(gradients, offset);
  const Buffer<double> d_losses(losses);
  auto [control, norm, partials] = under_all_schedules([&] {
    const Buffer<double> d_control(std::vector<double>{-1.0, halted}), d_norm(1),
        d_partials(static_cast<size_t>((n + kernels::kNormBlock - 1) / kernels::kNormBlock));
    EXPECT_EQ(kernels::step_norm(
                  {d_control.data(), d_norm.data(), d_losses.data(), static_cast<int>(losses.size() / 2), max_norm},
                  d_partials.data(), g.data(), n, nullptr),
              cudaSuccess);
    return std::tuple(d_control.download(), d_norm.download(), d_partials.download());
  });
  return {control, norm, partials};
}

class NormSizes : public ::testing::TestWithParam<Size> {};
TEST_P(NormSizes, IsTheRootOfBlocksSummedInOrder) {
  const auto gradients = random_values<float>(static_cast<size_t>(GetParam().n), 1e-3, 5);
  const Decision ours = decide(gradients, GetParam().offset, 0.0, {});
  double total = 0;
  for (size_t block = 0; block < ours.partials.size(); ++block) {
    long double exact = 0;
    const size_t begin = block * kernels::kNormBlock, end = std::min(gradients.size(), begin + kernels::kNormBlock);
    for (size_t i = begin; i < end; ++i) exact += static_cast<long double>(gradients[i]) * gradients[i];
    // at most 64 + 5 + 8 additions on the way of an element
    ASSERT_NEAR(ours.partials[block], static_cast<double>(exact), 77 * 0x1p-53 * static_cast<double>(exact));
    total += ours.partials[block];
  }
  EXPECT_EQ(ours.norm[0], std::sqrt(total));
  EXPECT_EQ(ours.control, (std::vector<double>{1.0, 0.0}));
}
INSTANTIATE_TEST_SUITE_P(Sizes, NormSizes,
                         ::testing::Values(Size{1}, Size{3}, Size{4}, Size{7}, Size{1023}, Size{1028}, Size{16383},
                                           Size{16384}, Size{16385}, Size{16388, 1}, Size{3 * 16384 + 7},
                                           Size{300 * 16384 + 4}));

TEST(StepNorm, DoesNotDependOnAlignment) {
  const auto gradients = random_values<float>(40000, 1e-3, 6);
  const Decision aligned = decide(gradients, 0, 0.0, {}), other = decide(gradients, 1, 0.0, {});
  expect_bits(aligned.partials, other.partials);
  EXPECT_EQ(aligned.norm, other.norm);
}

TEST(StepNorm, ScalesDownToTheLargestNormAllowed) {
  const std::vector<float> gradients{3.0f, -4.0f};
  EXPECT_EQ(decide(gradients, 0, 1.0, {}).control[0], 1.0 / (5.0 + 1e-6));
  EXPECT_EQ(decide(gradients, 0, 5.0, {}).control[0], 5.0 / (5.0 + 1e-6));
  EXPECT_EQ(decide(gradients, 0, 6.0, {}).control[0], 1.0);
  EXPECT_EQ(decide(gradients, 0, 0.0, {}).control[0], 1.0);
  EXPECT_EQ(decide(gradients, 0, -1.0, {}).control[0], 1.0);
}

TEST(StepNorm, HaltsAtTheFirstBadStepAndStaysSo) {
  const auto halted = [](float gradient, double loss, double before) {
    std::vector<float> gradients(20000, 1e-3f);
    gradients.back() = gradient;
    std::vector<double> losses(2 * 300, 1.0);  // more micro-batches than a block has threads
    losses[2 * 299] = loss;
    return decide(gradients, 0, 1.0, losses, before).control[1];
  };
  EXPECT_EQ(halted(1.0f, 2.0, 0.0), 0.0);
  EXPECT_EQ(halted(1.0f, 2.0, 1.0), 1.0);
  for (const double bad : {kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_EQ(halted(static_cast<float>(bad), 2.0, 0.0), 1.0) << bad;
    EXPECT_EQ(halted(1.0f, bad, 0.0), 1.0) << bad;
  }
  // The largest float's square is no overflow in float64.
  EXPECT_EQ(halted(std::numeric_limits<float>::max(), std::numeric_limits<double>::max(), 0.0), 0.0);
}

TEST(StepNorm, NothingToDoIsNoFault) {
  EXPECT_EQ(kernels::step_norm({}, nullptr, nullptr, 0, nullptr), cudaSuccess);
  EXPECT_EQ(kernels::adamw(nullptr, nullptr, nullptr, nullptr, nullptr, 0, kConstants, nullptr, nullptr), cudaSuccess);
}

}  // namespace
}  // namespace phi3tune::kernel_test
