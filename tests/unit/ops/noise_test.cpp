#include "fixture.h"

namespace phi3tune::ops::test {
namespace {

class Noise : public ByDtype {
 protected:
  static NoiseKey key(std::span<const uint64_t> ids, double alpha = 5.0) {
    return {.alpha = alpha, .seed = 11, .step = 3, .sample_ids = ids};
  }
  at::Tensor noise(const std::vector<int32_t>& ends, int64_t columns, const NoiseKey& k) const {
    const at::Tensor x = at::zeros({ends.back(), columns}, dtype());
    add_noise(x, {ends}, k);
    return x;
  }
};

TEST_P(Noise, HoldsToTheDefinition) {
  const std::vector<int32_t> ends{0, 3, 3, 10};
  const std::vector<uint64_t> ids{5, 6, uint64_t{1} << 40};
  for (const int64_t columns : {1, 7, 8, 65, 300}) {
    const at::Tensor x = normal({10, columns}, dtype());
    const Guarded out(x);
    add_noise(out, {ends}, key(ids));
    const at::Tensor wanted = (x.to(wide()) + definition::noise(columns, {ends}, key(ids), wide())).to(dtype());
    EXPECT_TRUE(same_bits(out.tensor().clone(), wanted)) << columns;
    EXPECT_TRUE(out.intact()) << columns;
  }
}

// transformers' neftune_post_forward_hook over one row a document: uniform_(-m, m) with m = alpha / sqrt(L D).
TEST_P(Noise, IsUniformWithinAlphaOverTheRootOfEachDocumentsElements) {
  const std::vector<int32_t> ends{0, 50, 250};
  const std::vector<uint64_t> ids{9, 10};
  const at::Tensor all = noise(ends, 400, key(ids)).to(at::kDouble);
  for (const auto& [begin, length] : {std::pair{0, 50}, std::pair{50, 200}}) {
    const at::Tensor part = all.narrow(0, begin, length);
    const double m = 5.0 / std::sqrt(length * 400.0);
    const auto n = static_cast<double>(part.numel());
    EXPECT_LE(part.abs().max().item<double>(), m * (1 + unit_roundoff(dtype())));
    EXPECT_GE(part.max().item<double>(), 0.99 * m);
    EXPECT_LE(part.min().item<double>(), -0.99 * m);
    // Four standard deviations of the mean, and of the mean square, of n draws.
    EXPECT_NEAR(part.mean().item<double>(), 0.0, 4 * m / std::sqrt(3 * n));
    EXPECT_NEAR(part.square().mean().item<double>(), m * m / 3, 4 * m * m * std::sqrt(4.0 / 45 / n) + m * m * 1e-3);
  }
}

TEST_P(Noise, PackedAndSplitAndReorderedAgree) {
  const std::vector<uint64_t> ids{100, 200}, first_ids{100}, second_ids{200}, swapped_ids{200, 100};
  const at::Tensor packed = noise({0, 5, 12}, 70, key(ids));
  const at::Tensor first = noise({0, 5}, 70, key(first_ids)), second = noise({0, 7}, 70, key(second_ids));
  EXPECT_TRUE(same_bits(packed, at::cat({first, second})));
  EXPECT_TRUE(same_bits(noise({0, 7, 12}, 70, key(swapped_ids)), at::cat({second, first})));
}

TEST_P(Noise, EveryPartOfTheKeyChangesIt) {
  const std::vector<uint64_t> ids{1}, other_ids{2}, far_ids{1 + (uint64_t{1} << 32)};
  const at::Tensor base = noise({0, 8}, 64, key(ids));
  std::vector<NoiseKey> others(5, key(ids));
  others[0].seed += 1;
  others[1].step += 1;
  others[2].step += uint64_t{1} << 32;
  others[3].sample_ids = other_ids;
  others[4].sample_ids = far_ids;
  for (const NoiseKey& other : others) {
    EXPECT_LT(noise({0, 8}, 64, other).eq(base).to(at::kDouble).mean().item<double>(), 0.1);
  }
  EXPECT_FALSE(same_bits(base[0], base[1]));  // positions differ
  EXPECT_FALSE(same_bits(base.narrow(1, 0, 4), base.narrow(1, 4, 4)));
}

TEST_P(Noise, SameBitsForAnyThreads) {
  const std::vector<int32_t> ends{0, 100, 350, 400};
  const std::vector<uint64_t> ids{1, 2, 3};
  const auto run = [&](int threads) {
    const Threads scope(threads);
    return noise(ends, 200, key(ids));
  };
  EXPECT_TRUE(same_bits(run(1), run(2)));
}

TEST_P(Noise, MissingSampleIdsAreABugOfOurs) {
  const std::vector<uint64_t> ids{1};
  EXPECT_THROW(noise({0, 1, 3}, 9, key(ids)), InternalError);
}

FOR_ALL_DTYPES(Noise);

}  // namespace
}  // namespace phi3tune::ops::test
