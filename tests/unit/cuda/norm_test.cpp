#include "fixture.h"

namespace phi3tune::cuda::test {
namespace {

constexpr double kEps = 1e-5;

class Norm : public ByDtype {};

struct Shape {
  int64_t tokens, dim, room;
};
constexpr Shape kShapes[] = {{1, 1, 0}, {5, 77, 3}, {9, 96, 8}, {3, 3072, 16}, {0, 64, 8}};

TEST_P(Norm, IsTheDefinition) {
  for (const auto& [tokens, dim, room] : kShapes) {
    const Tensor x = normal({tokens, dim}, dtype(), 3.0);
    const Tensor weight = normal({dim}, dtype());
    const Spaced y({tokens, dim}, dtype(), room);
    const Guarded rstd({tokens}, at::kFloat);
    ops::rms_norm(y, rstd, x, weight, kEps);
    expect_close(y, ops::definition::rms_norm(x, weight, kEps),
                 ops::definition::rms_norm(exactly(x), exactly(weight), kEps));
    EXPECT_LE(relative_error(rstd, exactly(x).square().mean(1).add(kEps).rsqrt()), 1e-6);
    EXPECT_TRUE(y.intact() && rstd.intact());
  }
}

TEST_P(Norm, AddsFirstWithOneRounding) {
  for (const auto& [tokens, dim, room] : kShapes) {
    for (const bool in_place : {false, true}) {
      const Tensor residual = normal({tokens, dim}, dtype());
      const Tensor delta = normal({tokens, dim}, dtype());
      const Tensor weight = normal({dim}, dtype());
      const Tensor expected = residual + delta;
      const Guarded sum(residual);
      const Spaced y({tokens, dim}, dtype(), room);
      const Guarded rstd({tokens}, at::kFloat);
      ops::add_rms_norm(y, rstd, sum, in_place ? sum.tensor() : residual, delta, weight, kEps);
      EXPECT_TRUE(same_bits(sum, expected));
      expect_close(y, ops::definition::rms_norm(expected, weight, kEps),
                   ops::definition::rms_norm(exactly(expected), exactly(weight), kEps));
      EXPECT_TRUE(sum.intact() && y.intact() && rstd.intact());
    }
  }
}

TEST_P(Norm, BackwardAddsTheGradient) {
  for (const auto& [tokens, dim, room] : kShapes) {
    const Tensor x = normal({tokens, dim}, dtype(), 2.0);
    const Tensor weight = normal({dim}, dtype());
    const Tensor dy = normal({tokens, dim}, dtype());
    const Tensor before = normal({tokens, dim}, dtype());
    const Tensor rstd = exactly(x).square().mean(1).add(kEps).rsqrt().to(at::kFloat);
    const Spaced dx(before, room);
    ops::rms_norm_backward(dx, dy, x, rstd, weight);
    const auto by_autograd = [&](at::ScalarType type) {
      const Tensor w = weight.to(type);
      return before.to(type) + gradients([&](const auto& in) { return ops::definition::rms_norm(in[0], w, kEps); },
                                         {x.to(type)}, dy.to(type))[0];
    };
    if (tokens > 0) {
      expect_close(dx, by_autograd(dtype()), by_autograd(at::kDouble));
    }
    EXPECT_TRUE(dx.intact());
  }
}

FOR_BOTH_DTYPES(Norm);

}  // namespace
}  // namespace phi3tune::cuda::test
