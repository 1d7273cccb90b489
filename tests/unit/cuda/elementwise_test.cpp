// RoPE, SwiGLU, rows, casts.
#include "fixture.h"

namespace phi3tune::cuda::test {
namespace {

class Elementwise : public ByDtype {};

TEST_P(Elementwise, RopeTurnsQueriesAndKeysInPlace) {
  for (const auto& heads : {ops::HeadShape{4, 2, 16, 16}, ops::HeadShape{3, 3, 20, 12}, ops::HeadShape{2, 1, 96, 96}}) {
    for (const bool inverse : {false, true}) {
      const int64_t tokens = 7;
      const Tensor before = normal({tokens, (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim}, dtype());
      const Tensor angles = at::rand({tokens, heads.rotary_dim / 2}, at::kDouble) * 6.0;
      const Tensor cosine = angles.cos().to(dtype()).to(at::kFloat);
      const Tensor sine = angles.sin().to(dtype()).to(at::kFloat);
      const Spaced qkv(before, 8);
      ops::rope(qkv, cosine, sine, heads, inverse);
      expect_close(qkv, ops::definition::rope(before, cosine, sine, heads, inverse),
                   ops::definition::rope(exactly(before), exactly(cosine), exactly(sine), heads, inverse));
      EXPECT_TRUE(qkv.intact());
    }
  }
}

TEST_P(Elementwise, SwigluIsTheDefinition) {
  for (const int64_t dim : {1, 13, 64, 200}) {
    const Spaced gate_up(normal({6, 2 * dim}, dtype(), 2.0), 8);
    const Spaced hidden({6, dim}, dtype(), 5);
    ops::swiglu(hidden, gate_up);
    expect_close(hidden, ops::definition::swiglu(gate_up.tensor().contiguous()),
                 ops::definition::swiglu(exactly(gate_up).contiguous()));
    EXPECT_TRUE(hidden.intact() && gate_up.intact());
  }
}

// As the step calls it: the gradient over gate_up, the activation again over its own gradient.
TEST_P(Elementwise, SwigluBackwardMayOverwriteItsInputs) {
  for (const int64_t dim : {1, 13, 64, 200}) {
    const Tensor gate_up = normal({6, 2 * dim}, dtype(), 2.0);
    const Tensor d_hidden = normal({6, dim}, dtype());
    const Spaced d_gate_up(gate_up, 8);
    const Spaced hidden(d_hidden, 8);
    ops::swiglu_backward(d_gate_up, hidden, hidden, d_gate_up);
    const auto by_autograd = [&](at::ScalarType type) {
      return gradients([](const auto& in) { return ops::definition::swiglu(in[0]); }, {gate_up.to(type)},
                       d_hidden.to(type))[0];
    };
    expect_close(d_gate_up, by_autograd(dtype()), by_autograd(at::kDouble));
    expect_close(hidden, ops::definition::swiglu(gate_up), ops::definition::swiglu(exactly(gate_up)));
    EXPECT_TRUE(hidden.intact() && d_gate_up.intact());

    const Guarded apart({6, 2 * dim}, dtype());
    ops::swiglu_backward(apart, {}, d_hidden, gate_up);
    EXPECT_TRUE(same_bits(apart, d_gate_up));
    EXPECT_TRUE(apart.intact());
  }
}

TEST_P(Elementwise, RowsAreTakenAndPutBack) {
  for (const int64_t dim : {1, 24, 77}) {
    const Tensor table = normal({9, dim}, dtype());
    const Tensor ids = at::tensor({8, 0, 3, 3}, at::kLong);
    const Spaced taken({4, dim}, dtype(), 8);
    ops::gather_rows(taken, table, ids);
    EXPECT_TRUE(same_bits(taken, table.index_select(0, ids)));

    const Tensor rows = at::tensor({1, 2, 6}, at::kLong);
    const Tensor x = normal({3, dim}, dtype());
    const Spaced back({8, dim}, dtype(), 8);
    ops::scatter_rows(back, x, rows);
    EXPECT_TRUE(same_bits(back, ops::definition::scatter_rows(x, rows, 8)));
    EXPECT_TRUE(taken.intact() && back.intact());

    const Spaced nothing({8, dim}, dtype(), 8);
    ops::scatter_rows(nothing, at::empty({0, dim}, dtype()), at::empty({0}, at::kLong));
    EXPECT_TRUE(nothing.tensor().eq(0).all().item<bool>());
  }
}

TEST_P(Elementwise, SumsAreRoundedOnce) {
  const Tensor residual = normal({5, 83}, dtype());
  const Tensor delta = normal({5, 83}, dtype());
  const Tensor expected = residual + delta;
  const Guarded sum({5, 83}, dtype());
  ops::add(sum, residual, delta);
  EXPECT_TRUE(same_bits(sum, expected) && sum.intact());
  const Guarded in_place(residual);
  ops::add(in_place, in_place, delta);
  EXPECT_TRUE(same_bits(in_place, expected) && in_place.intact());
}

TEST_P(Elementwise, CastsRoundToNearest) {
  for (const at::ScalarType from : {at::kFloat, at::kBFloat16}) {
    for (const int64_t n : {0, 1, 15, 4099}) {
      const Tensor in = normal({n}, from);
      const Guarded out({n}, dtype());
      ops::convert(out, in);
      EXPECT_TRUE(same_bits(out, in.to(dtype())) && out.intact());
    }
  }
}

FOR_BOTH_DTYPES(Elementwise);

}  // namespace
}  // namespace phi3tune::cuda::test
