// The way into attention: strided rows, documents. Attention itself is a library's on the GPU, the CPU's here.
#include "fixture.h"

namespace phi3tune::cuda::test {
namespace {

class Attention : public ByDtype {};

TEST_P(Attention, StridedRowsAreReadAndWritten) {
  const ops::HeadShape heads{4, 2, 16, 16};
  const Packed packed({5, 0, 9, 1});
  for (const int64_t window : {0, 4}) {
    const Guarded qkv(normal({packed.tokens(), 8 * 16}, dtype()));
    const Spaced out({packed.tokens(), 4 * 16}, dtype(), 8);
    const Guarded lse({4, packed.tokens()}, at::kFloat);
    ops::attention(out, lse, qkv, packed.documents(), heads, window);
    const auto defined = [&](at::ScalarType type) {
      return ops::definition::attention(qkv.tensor().to(type), packed.documents(), heads, window);
    };
    expect_close(out, defined(dtype()).first, defined(at::kDouble).first);
    EXPECT_LE(relative_error(lse, defined(at::kDouble).second), 1e-5);

    const Tensor dout = normal({packed.tokens(), 4 * 16}, dtype());
    const Spaced dqkv({packed.tokens(), 8 * 16}, dtype(), 8);
    ops::attention_backward(dqkv, dout, out, lse, qkv, packed.documents(), heads, window);
    const auto by_autograd = [&](at::ScalarType type) {
      return gradients(
          [&](const auto& in) { return ops::definition::attention(in[0], packed.documents(), heads, window).first; },
          {qkv.tensor().to(type)}, dout.to(type))[0];
    };
    expect_close(dqkv, by_autograd(dtype()), by_autograd(at::kDouble));
    EXPECT_TRUE(qkv.intact() && out.intact() && lse.intact() && dqkv.intact());
  }
}

TEST_P(Attention, NoTokensIsNothingToDo) {
  const ops::HeadShape heads{2, 2, 8, 8};
  const Packed packed({0});
  const Tensor none = at::empty({0, 48}, dtype()), out = at::empty({0, 16}, dtype()),
               lse = at::empty({2, 0}, at::kFloat);
  const uint64_t before = counters().attentions;
  ops::attention(out, lse, none, packed.documents(), heads, 0);
  ops::attention_backward(none, out, out, lse, none, packed.documents(), heads, 0);
  EXPECT_EQ(counters().attentions, before);
}

FOR_BOTH_DTYPES(Attention);

}  // namespace
}  // namespace phi3tune::cuda::test
