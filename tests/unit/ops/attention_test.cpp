#include "fixture.h"

namespace phi3tune::ops::test {
namespace {

class Attention : public ByDtype {
 protected:
  static int64_t width(const HeadShape& heads) { return (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim; }

  // Forward and backward against the definition and autograd.
  void hold(const HeadShape& heads, const std::vector<int32_t>& ends, int64_t window) {
    SCOPED_TRACE(testing::Message() << heads.num_heads << "/" << heads.num_kv_heads << " heads of " << heads.head_dim
                                    << ", " << ends.back() << " tokens, window " << window);
    const int64_t tokens = ends.back();
    const Documents documents{ends};
    const at::Tensor qkv = normal({tokens, width(heads)}, dtype());
    const at::Tensor dout = normal({tokens, heads.num_heads * heads.head_dim}, dtype());
    const Guarded out({tokens, heads.num_heads * heads.head_dim}, dtype()), lse({heads.num_heads, tokens}, wide());
    const Guarded dqkv({tokens, width(heads)}, dtype());
    attention(out, lse, qkv, documents, heads, window);
    attention_backward(dqkv, dout, out, lse, qkv, documents, heads, window);
    EXPECT_TRUE(out.intact() && lse.intact() && dqkv.intact());

    const auto forward = [&](at::ScalarType t) { return definition::attention(qkv.to(t), documents, heads, window); };
    const auto by_autograd = [&](at::ScalarType t) {
      return gradients([&](const auto& in) { return definition::attention(in[0], documents, heads, window).first; },
                       {qkv.to(t)}, dout.to(t))[0];
    };
    const auto [aten, aten_lse] = forward(dtype());
    const auto [exact, exact_lse] = forward(at::kDouble);
    expect_close(out, aten, exact);
    expect_close(lse, aten_lse, exact_lse);
    const at::Tensor aten_gradient = by_autograd(dtype()), exact_gradient = by_autograd(at::kDouble);
    const int64_t q = heads.num_heads * heads.head_dim, kv = heads.num_kv_heads * heads.head_dim;
    for (const auto& [begin, size] : {std::pair(int64_t{0}, q), std::pair(q, kv), std::pair(q + kv, kv)}) {
      expect_close(dqkv.tensor().narrow(1, begin, size), aten_gradient.narrow(1, begin, size),
                   exact_gradient.narrow(1, begin, size), exact_gradient.abs().max().item<double>());
    }
  }
};

constexpr HeadShape kShapes[] = {{2, 2, 96, 96}, {4, 2, 16, 16}, {8, 2, 64, 64}, {3, 1, 128, 96}, {2, 2, 20, 20}};

TEST_P(Attention, HoldsToTheDefinitionForEveryHeadShape) {
  for (const HeadShape& heads : kShapes) {
    for (const int32_t tokens : {1, 7, 33, 65}) {
      hold(heads, {0, tokens}, 0);
    }
  }
}

TEST_P(Attention, HoldsToTheDefinitionForPackedDocuments) {
  for (const HeadShape& heads : kShapes) {
    hold(heads, {0, 1, 9, 9, 41, 72}, 0);
    hold(heads, {0, 1, 9, 9, 41, 72}, 8);
  }
}

TEST_P(Attention, HoldsToTheDefinitionForWindows) {
  for (const int64_t window : {1, 2, 31, 63, 64, 65, 1000}) {
    hold({4, 2, 16, 16}, {0, 64}, window);
  }
  hold({4, 2, 16, 16}, {0, 300}, 130);  // several blocks of queries
  hold({2, 2, 96, 96}, {0, 300}, 0);
  hold({2, 1, 96, 96}, {0, 517, 600}, 200);
}

TEST_P(Attention, DocumentsDoNotSeeEachOther) {
  const HeadShape heads{4, 2, 16, 16};
  const std::vector<int32_t> ends{0, 20, 50};
  const at::Tensor qkv = normal({50, width(heads)}, dtype());
  const auto run = [&](const at::Tensor& in) {
    const at::Tensor out = at::empty({50, 64}, dtype()), lse = at::empty({4, 50}, wide());
    attention(out, lse, in, {ends}, heads, 0);
    return out;
  };
  const at::Tensor before = run(qkv);
  at::Tensor changed = qkv.clone();
  changed.narrow(0, 0, 20).fill_(3.0);
  EXPECT_TRUE(same_bits(run(changed).narrow(0, 20, 30), before.narrow(0, 20, 30)));
  EXPECT_FALSE(same_bits(run(changed).narrow(0, 0, 20), before.narrow(0, 0, 20)));
}

TEST_P(Attention, RepeatsBitForBitWhereverItLies) {
  const std::vector<int32_t> ends{0, 100, 230};
  for (const HeadShape& heads : {HeadShape{4, 4, 96, 96}, HeadShape{4, 2, 16, 16}}) {
    for (const int64_t window : {0, 50}) {
      const at::Tensor qkv = normal({230, width(heads)}, dtype());
      const at::Tensor dout = normal({230, heads.num_heads * heads.head_dim}, dtype());
      const auto run = [&](int64_t offset) {
        const Guarded in(qkv, offset), out(dout.sizes(), dtype(), offset), lse({heads.num_heads, 230}, wide(), offset);
        const Guarded dqkv(qkv.sizes(), dtype(), offset);
        attention(out, lse, in, {ends}, heads, window);
        attention_backward(dqkv, dout, out, lse, in, {ends}, heads, window);
        return at::cat({out.tensor(), dqkv.tensor()}, 1);
      };
      const at::Tensor once = run(0);
      EXPECT_TRUE(same_bits(once, run(0)));
      EXPECT_TRUE(same_bits(once, run(64)));
    }
  }
}

TEST_P(Attention, NoTokensIsNoWork) {
  const HeadShape heads{4, 2, 16, 16};
  const std::vector<int32_t> ends{0};
  attention(at::empty({0, 64}, dtype()), at::empty({4, 0}, wide()), at::empty({0, width(heads)}, dtype()), {ends},
            heads, 0);
}

TEST_P(Attention, DocumentsThatDoNotCoverTheTokensAreABugOfOurs) {
  const HeadShape heads{4, 2, 16, 16};
  const at::Tensor qkv = normal({5, width(heads)}, dtype()), out = at::empty({5, 64}, dtype());
  const at::Tensor lse = at::empty({4, 5}, wide());
  const auto run = [&](const std::vector<int32_t>& ends) { attention(out, lse, qkv, {ends}, heads, 0); };
  EXPECT_THROW(run({0, 4}), InternalError);
  EXPECT_THROW(run({1, 5}), InternalError);
  EXPECT_THROW(run({0, 4, 3, 5}), InternalError);
  EXPECT_THROW(run({}), InternalError);
}

FOR_ALL_DTYPES(Attention);

}  // namespace
}  // namespace phi3tune::ops::test
