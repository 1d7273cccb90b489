#include "fixture.h"

namespace phi3tune::ops::test {
namespace {

constexpr double kEps = 1e-5;

class Norm : public ByKernel {};

TEST_P(Norm, ForwardHoldsToTheDefinitionAtEveryLength) {
  for (const int64_t dim : {1, 7, 8, 9, 31, 33, 64, 257}) {
    for (const int64_t rows : {0, 1, 5}) {
      const at::Tensor x = normal({rows, dim}, dtype(), 3.0);
      const at::Tensor weight = normal({dim}, dtype());
      const Guarded y({rows, dim}, dtype()), rstd({rows}, wide());
      rms_norm(y, rstd, x, weight, kEps);
      const at::Tensor exact = definition::rms_norm(x.to(at::kDouble), weight.to(at::kDouble), kEps);
      expect_close(y, definition::rms_norm(x, weight, kEps), exact);
      expect_close(rstd, x.to(wide()).square().mean(1).add(kEps).rsqrt(),
                   x.to(at::kDouble).square().mean(1).add(kEps).rsqrt());
      EXPECT_TRUE(y.intact() && rstd.intact()) << rows << " x " << dim;
    }
  }
}

// The product is rounded before the weight, as transformers does: in bfloat16 the bits show it.
TEST_P(Norm, RoundsBeforeTheWeight) {
  const at::Tensor x = normal({40, 96}, dtype());
  const at::Tensor weight = at::full({96}, 1.0 + 0x1p-7, dtype());
  const at::Tensor y = at::empty_like(x), rstd = at::empty({40}, wide());
  rms_norm(y, rstd, x, weight, kEps);
  const at::Tensor rounded = (x.to(wide()) * rstd.unsqueeze(1)).to(dtype());
  EXPECT_TRUE(same_bits(y, weight * rounded));
}

TEST_P(Norm, AddNormIsAddThenNorm) {
  const at::Tensor x = normal({5, 33}, dtype()), delta = normal({5, 33}, dtype()), weight = normal({33}, dtype());
  const Guarded sum({5, 33}, dtype()), in_place(x), apart({5, 33}, dtype()), y({5, 33}, dtype()), rstd({5}, wide());
  const at::Tensor y_apart = at::empty_like(x), rstd_apart = at::empty({5}, wide());
  ops::add(sum.tensor(), x, delta);
  rms_norm(y_apart, rstd_apart, sum, weight, kEps);
  EXPECT_TRUE(same_bits(sum.tensor(), x + delta));
  for (const at::Tensor& residual : {in_place.tensor(), x}) {
    const at::Tensor& into = residual.is_same(x) ? apart.tensor() : in_place.tensor();
    add_rms_norm(y, rstd, into, residual, delta, weight, kEps);
    EXPECT_TRUE(same_bits(into, sum.tensor()));
    EXPECT_TRUE(same_bits(y.tensor(), y_apart));
    EXPECT_TRUE(same_bits(rstd.tensor(), rstd_apart));
  }
  EXPECT_TRUE(sum.intact() && in_place.intact() && apart.intact() && y.intact() && rstd.intact());
}

TEST_P(Norm, BackwardAddsTheGradientOfAutograd) {
  for (const int64_t dim : {1, 7, 8, 9, 31, 33, 257}) {
    const at::Tensor x = normal({5, dim}, dtype(), 2.0), weight = normal({dim}, dtype());
    const at::Tensor dy = normal({5, dim}, dtype()), before = normal({5, dim}, dtype());
    const at::Tensor y = at::empty_like(x), rstd = at::empty({5}, wide());
    rms_norm(y, rstd, x, weight, kEps);
    const Guarded dx(before);
    rms_norm_backward(dx, dy, x, rstd, weight);
    const auto by_autograd = [&](at::ScalarType type) {
      return before.to(type) + gradients([&](const auto& in) { return definition::rms_norm(in[0], in[1], kEps); },
                                         {x.to(type), weight.to(type)}, dy.to(type))[0];
    };
    expect_close(dx, by_autograd(dtype()), by_autograd(at::kDouble));
    EXPECT_TRUE(dx.intact()) << dim;
  }
}

TEST_P(Norm, RowsHaveTheSameBitsWhereverTheyLieAndForAnyThreads) {
  const at::Tensor x = normal({700, 129}, dtype()), weight = normal({129}, dtype());
  const auto run = [&](int64_t offset, int threads) {
    const Threads scope(threads);
    const Guarded in(x, offset), y({700, 129}, dtype(), offset), rstd({700}, wide(), offset);
    rms_norm(y, rstd, in, weight, kEps);
    return y.tensor();
  };
  const at::Tensor once = run(0, 2);
  EXPECT_TRUE(same_bits(once, run(5, 2)));
  EXPECT_TRUE(same_bits(once, run(1, 1)));
}

TEST_P(Norm, WrongShapesAreABugOfOurs) {
  const at::Tensor x = normal({5, 8}, dtype()), weight = normal({8}, dtype()), rstd = at::empty({5}, wide());
  const at::Tensor y = at::empty_like(x);
  EXPECT_THROW(rms_norm(y, rstd, x, normal({7}, dtype()), kEps), InternalError);
  EXPECT_THROW(rms_norm(y, at::empty({4}, wide()), x, weight, kEps), InternalError);
  EXPECT_THROW(rms_norm(y, at::empty({5}, at::kHalf), x, weight, kEps), InternalError);
  EXPECT_THROW(rms_norm(at::empty({8, 5}, dtype()).t(), rstd, x, weight, kEps), InternalError);
  EXPECT_THROW(rms_norm(at::Tensor(), rstd, x, weight, kEps), InternalError);
  EXPECT_THROW(rms_norm(y.to(at::kHalf), rstd, x.to(at::kHalf), weight.to(at::kHalf), kEps), InternalError);
}

FOR_ALL_KERNELS(Norm);

}  // namespace
}  // namespace phi3tune::ops::test
