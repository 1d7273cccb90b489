#include "fixture.h"

namespace phi3tune::ops::test {
namespace {

class Rope : public ByKernel {
 protected:
  // Tables with values of the compute dtype, as the model makes them.
  at::Tensor table(int64_t tokens, const HeadShape& heads) {
    return normal({tokens, heads.rotary_dim / 2}, dtype()).to(wide());
  }
};

constexpr HeadShape kShapes[] = {{2, 2, 96, 96}, {4, 2, 16, 16}, {2, 1, 128, 96},
                                 {3, 1, 64, 2},  {1, 1, 14, 14}, {2, 1, 34, 18}};

TEST_P(Rope, TurnsQueriesAndKeysAndLeavesTheRest) {
  for (const HeadShape& heads : kShapes) {
    const int64_t width = (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim;
    const at::Tensor in = normal({5, width}, dtype());
    const at::Tensor cosine = table(5, heads), sine = table(5, heads);
    for (const bool inverse : {false, true}) {
      const Guarded qkv(in);
      rope(qkv, cosine, sine, heads, inverse);
      expect_close(qkv, definition::rope(in, cosine, sine, heads, inverse),
                   definition::rope(in.to(at::kDouble), cosine.to(at::kDouble), sine.to(at::kDouble), heads, inverse));
      const int64_t values = (heads.num_heads + heads.num_kv_heads) * heads.head_dim;
      EXPECT_TRUE(same_bits(qkv.tensor().narrow(1, values, width - values), in.narrow(1, values, width - values)));
      EXPECT_TRUE(qkv.intact()) << heads.head_dim;
    }
  }
}

TEST_P(Rope, InverseIsTheGradientOfAutograd) {
  for (const HeadShape& heads : kShapes) {
    const int64_t width = (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim;
    const at::Tensor in = normal({3, width}, dtype()), upstream = normal({3, width}, dtype());
    const at::Tensor cosine = table(3, heads), sine = table(3, heads);
    const Guarded gradient(upstream);
    rope(gradient, cosine, sine, heads, true);
    const auto by_autograd = [&](at::ScalarType type) {
      return gradients(
          [&](const auto& x) { return definition::rope(x[0], cosine.to(type), sine.to(type), heads, false); },
          {in.to(type)}, upstream.to(type))[0];
    };
    expect_close(gradient, by_autograd(dtype()), by_autograd(at::kDouble));
  }
}

TEST_P(Rope, OddRotaryWidthIsABugOfOurs) {
  const at::Tensor qkv = normal({2, 3 * 8}, dtype());
  EXPECT_THROW(rope(qkv, at::ones({2, 2}, wide()), at::ones({2, 2}, wide()), HeadShape{1, 1, 8, 5}, false),
               InternalError);
  EXPECT_THROW(rope(qkv, at::ones({2, 3}, wide()), at::ones({2, 4}, wide()), HeadShape{1, 1, 8, 8}, false),
               InternalError);
}

FOR_ALL_KERNELS(Rope);

}  // namespace
}  // namespace phi3tune::ops::test
