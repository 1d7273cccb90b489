#include "fixture.h"

namespace phi3tune::ops::test {
namespace {

class SwiGlu : public ByKernel {};

TEST_P(SwiGlu, ForwardHoldsToTheDefinitionAtEveryLength) {
  for (const int64_t dim : {1, 7, 8, 9, 31, 33, 257}) {
    for (const int64_t rows : {0, 1, 5}) {
      const at::Tensor gate_up = normal({rows, 2 * dim}, dtype(), 4.0);
      const Guarded hidden({rows, dim}, dtype());
      swiglu(hidden, gate_up);
      expect_close(hidden, definition::swiglu(gate_up), definition::swiglu(gate_up.to(at::kDouble)));
      EXPECT_TRUE(hidden.intact()) << rows << " x " << dim;
    }
  }
}

TEST_P(SwiGlu, BackwardIsTheGradientOfAutogradAlsoInPlace) {
  for (const int64_t dim : {1, 7, 8, 9, 31, 33, 257}) {
    const at::Tensor gate_up = normal({5, 2 * dim}, dtype(), 4.0), d_hidden = normal({5, dim}, dtype());
    const Guarded apart({5, 2 * dim}, dtype()), in_place(gate_up), hidden(d_hidden);
    swiglu_backward(apart, {}, d_hidden, gate_up);
    swiglu_backward(in_place, hidden, hidden, in_place);
    const at::Tensor again = at::empty_like(d_hidden);
    swiglu(again, gate_up);
    EXPECT_TRUE(same_bits(hidden.tensor(), again)) << "hidden is left where its gradient was";
    const auto by_autograd = [&](at::ScalarType type) {
      return gradients([](const auto& in) { return definition::swiglu(in[0]); }, {gate_up.to(type)},
                       d_hidden.to(type))[0];
    };
    expect_close(apart, by_autograd(dtype()), by_autograd(at::kDouble));
    EXPECT_TRUE(same_bits(apart.tensor(), in_place.tensor()));
    EXPECT_TRUE(apart.intact() && in_place.intact() && hidden.intact()) << dim;
  }
}

TEST_P(SwiGlu, ExtremeGatesGiveTheLimits) {
  const at::Tensor gate_up =
      at::tensor({-1e4, 1e4, -100.0, 0.0, 2.0, 3.0, 4.0, 5.0}, at::kDouble).to(dtype()).view({1, 8});
  const at::Tensor hidden = at::empty({1, 4}, dtype()), gradient = at::empty({1, 8}, dtype());
  swiglu(hidden, gate_up);
  EXPECT_EQ(hidden[0][0].item<double>(), 0.0);
  EXPECT_NEAR(hidden[0][1].item<double>() / 3e4, 1.0, 0x1p-7);
  swiglu_backward(gradient, {}, at::ones({1, 4}, dtype()), gate_up);
  EXPECT_TRUE(gradient.isfinite().all().item<bool>());
  EXPECT_EQ(gradient[0][3].item<double>(), 5.0 / 2);  // silu'(0) = 1/2
}

TEST_P(SwiGlu, NotANumberPassesThrough) {
  const at::Tensor gate_up = at::full({1, 66}, std::numeric_limits<double>::quiet_NaN(), dtype());
  const at::Tensor hidden = at::zeros({1, 33}, dtype());
  swiglu(hidden, gate_up);
  EXPECT_TRUE(hidden.isnan().all().item<bool>());
}

FOR_ALL_KERNELS(SwiGlu);

}  // namespace
}  // namespace phi3tune::ops::test
