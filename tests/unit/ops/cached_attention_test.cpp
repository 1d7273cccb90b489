#include "fixture.h"

namespace phi3tune::ops::test {
namespace {

class CachedAttention : public ByKernel {
 protected:
  // Sequences of `lengths` tokens, the last `fresh` of each new in the call.
  void hold(const HeadShape& heads, const std::vector<int64_t>& lengths, const std::vector<int32_t>& fresh,
            int64_t window) {
    SCOPED_TRACE(testing::Message() << heads.num_heads << "/" << heads.num_kv_heads << " heads of " << heads.head_dim
                                    << ", window " << window << ", " << lengths[0] << " tokens, " << fresh[0]
                                    << " of them new");
    const int64_t width = (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim;
    std::vector<int32_t> ends{0};
    std::vector<CachedSequence> sequences;
    std::vector<Guarded> caches;
    caches.reserve(2 * lengths.size());
    for (size_t i = 0; i < lengths.size(); ++i) {
      ends.push_back(ends.back() + fresh[i]);
      at::Tensor held[2];
      for (auto& half : held) {
        auto values = normal({heads.num_kv_heads, lengths[i] + 5, heads.head_dim}, dtype());
        values.narrow(1, lengths[i] - fresh[i], fresh[i] + 5).fill_(std::numeric_limits<double>::quiet_NaN());
        half = caches.emplace_back(values).tensor();
      }
      sequences.push_back({held[0], held[1], lengths[i]});
    }
    const Documents documents{ends};
    const at::Tensor qkv = normal({ends.back(), width}, dtype());
    append_to_cache(qkv, documents, sequences, heads);
    const Guarded out({ends.back(), heads.num_heads * heads.head_dim}, dtype());
    cached_attention(out, qkv, documents, sequences, heads, window);
    EXPECT_TRUE(out.intact());
    for (const auto& cache : caches) {
      EXPECT_TRUE(cache.intact());
    }
    for (size_t i = 0; i < lengths.size(); ++i) {  // each new token at its place, nothing behind
      const auto all = qkv.narrow(0, ends[i], fresh[i]).view({fresh[i], -1, heads.head_dim}).transpose(0, 1);
      const auto keys = all.narrow(0, heads.num_heads, heads.num_kv_heads);
      const auto values = all.narrow(0, heads.num_heads + heads.num_kv_heads, heads.num_kv_heads);
      EXPECT_TRUE(same_bits(sequences[i].keys.narrow(1, lengths[i] - fresh[i], fresh[i]), keys));
      EXPECT_TRUE(same_bits(sequences[i].values.narrow(1, lengths[i] - fresh[i], fresh[i]), values));
      EXPECT_TRUE(sequences[i].keys.narrow(1, lengths[i], 5).isnan().all().item<bool>());
    }
    // float32: values of about 1 cancel in a mean of many, and their roundings do not.
    expect_close(out, definition::cached_attention(qkv, documents, sequences, heads, window),
                 definition::cached_attention(qkv.to(at::kDouble), documents, sequences, heads, window),
                 dtype() == at::kFloat ? 1.0 : 0.0);
  }
};

constexpr HeadShape kShapes[] = {{2, 2, 96, 96}, {4, 2, 16, 16}, {8, 2, 64, 64}, {3, 1, 128, 96}, {2, 2, 20, 20}};

TEST_P(CachedAttention, HoldsToTheDefinitionForOneNewToken) {
  for (const HeadShape& heads : kShapes) {
    for (const int64_t length : {1, 2, 7, 63, 64, 65, 130}) {
      hold(heads, {length}, {1}, 0);
    }
  }
}

TEST_P(CachedAttention, HoldsToTheDefinitionForSequencesSideBySide) {
  for (const HeadShape& heads : kShapes) {
    hold(heads, {5, 70, 1, 40}, {1, 3, 1, 16}, 0);
    hold(heads, {70, 50, 12}, {30, 1, 2}, 0);  // many tokens beside few
  }
}

TEST_P(CachedAttention, HoldsToTheDefinitionForWindows) {
  for (const int64_t window : {1, 2, 15, 64, 65, 1000}) {
    hold({4, 2, 16, 16}, {140, 9}, {1, 1}, window);
    hold({4, 2, 16, 16}, {140, 300}, {9, 280}, window);
    hold({2, 2, 96, 96}, {33}, {17}, window);
  }
}

// A softmax that would overflow without its largest score taken away.
TEST_P(CachedAttention, LargeScoresStayFinite) {
  const HeadShape heads{2, 1, 16, 16};
  const auto qkv = at::full({1, 64}, 60.0, dtype());
  const auto keys = at::full({1, 100, 16}, -60.0, dtype());
  const auto values = at::arange(100, at::kDouble).view({1, 100, 1}).expand({1, 100, 16}).to(dtype()).contiguous();
  const std::vector<int32_t> ends{0, 1};
  const std::vector<CachedSequence> sequences{{keys, values, 80}};
  const at::Tensor out = at::empty({1, 32}, dtype());
  append_to_cache(qkv, {ends}, sequences, heads);
  cached_attention(out, qkv, {ends}, sequences, heads, 0);
  EXPECT_TRUE(same_bits(out, at::full({1, 32}, 60.0, dtype())));  // the new token outweighs all others
}

FOR_ALL_KERNELS(CachedAttention);

class AddLowRank : public ByKernel {};

TEST_P(AddLowRank, HoldsToTheDefinition) {
  for (const int64_t tokens : {1, 3, 8, 9, 20}) {
    for (const auto& [inputs, outputs, rank] : {std::tuple{96, 200, 16}, std::tuple{50, 33, 5}, std::tuple{8, 7, 1}}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens, " << inputs << " to " << outputs << ", rank " << rank);
      const auto x = normal({tokens, inputs}, dtype());
      const auto before = normal({tokens, outputs}, dtype());
      const auto a = normal({rank, inputs}, dtype(), 0.1);
      const auto b = normal({outputs, rank}, dtype());
      const Guarded y(before), u({tokens, rank}, dtype());
      add_low_rank(y, u, x, {a, b, 0.75});
      EXPECT_TRUE(y.intact() && u.intact());
      const auto exact = [](const at::Tensor& t) { return t.to(at::kDouble); };
      expect_close(u, at::matmul(x, a.t()), at::matmul(exact(x), exact(a).t()));
      expect_close(y, definition::lora(before, x, a, b, 0.75),
                   definition::lora(exact(before), exact(x), exact(a), exact(b), 0.75));
    }
  }
}

FOR_ALL_KERNELS(AddLowRank);

}  // namespace
}  // namespace phi3tune::ops::test
