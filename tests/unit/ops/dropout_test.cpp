#include "fixture.h"
#include "ops/philox.h"

namespace phi3tune::ops::test {
namespace {

// Known answers of the authors' Random123 library (kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}), (Philox4{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Philox4{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Philox4{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

class Dropout : public ByKernel {
 protected:
  static DropoutKey key(std::span<const uint64_t> ids, double p = 0.25) {
    return {.p = p, .seed = 11, .step = 3, .layer = 2, .module = 1, .sample_ids = ids};
  }
};

TEST_P(Dropout, HoldsToTheDefinition) {
  const std::vector<int32_t> ends{0, 3, 3, 10};
  const std::vector<uint64_t> ids{5, 6, uint64_t{1} << 40};
  for (const int64_t columns : {1, 7, 8, 9, 31, 33, 64, 65, 300}) {
    const at::Tensor x = normal({10, columns}, dtype());
    const Guarded out({10, columns}, dtype());
    dropout(out, x, {ends}, key(ids));
    EXPECT_TRUE(same_bits(out.tensor().add(0.0), definition::dropout(x, {ends}, key(ids)).add(0.0))) << columns;
    EXPECT_TRUE(out.intact()) << columns;
  }
}

TEST_P(Dropout, DropsTheAskedShareAndScalesTheRest) {
  const std::vector<int32_t> ends{0, 200};
  const std::vector<uint64_t> ids{9};
  for (const double p : {0.05, 0.5, 0.9}) {
    const at::Tensor out = at::empty({200, 500}, dtype());
    dropout(out, at::ones({200, 500}, dtype()), {ends}, key(ids, p));
    // 100,000 draws: four standard deviations.
    EXPECT_NEAR(out.eq(0.0).to(at::kDouble).mean().item<double>(), p, 4 * std::sqrt(p * (1 - p) / 1e5));
    EXPECT_NEAR(out.max().item<double>(), 1 / (1 - p), unit_roundoff(dtype()) * 2 / (1 - p));
  }
}

TEST_P(Dropout, PackedAndSplitAndReorderedAgree) {
  const at::Tensor x = normal({12, 70}, dtype());
  const at::Tensor packed = at::empty_like(x);
  const std::vector<int32_t> ends{0, 5, 12};
  const std::vector<uint64_t> ids{100, 200};
  dropout(packed, x, {ends}, key(ids));
  const std::vector<int32_t> first_ends{0, 5}, second_ends{0, 7};
  const std::vector<uint64_t> first_ids{100}, second_ids{200};
  const at::Tensor first = at::empty({5, 70}, dtype()), second = at::empty({7, 70}, dtype());
  dropout(first, x.narrow(0, 0, 5), {first_ends}, key(first_ids));
  dropout(second, x.narrow(0, 5, 7), {second_ends}, key(second_ids));
  EXPECT_TRUE(same_bits(packed, at::cat({first, second})));
  const at::Tensor swapped = at::empty_like(x);
  const std::vector<int32_t> swapped_ends{0, 7, 12};
  const std::vector<uint64_t> swapped_ids{200, 100};
  dropout(swapped, at::cat({x.narrow(0, 5, 7), x.narrow(0, 0, 5)}), {swapped_ends}, key(swapped_ids));
  EXPECT_TRUE(same_bits(swapped, at::cat({second, first})));
}

TEST_P(Dropout, EveryPartOfTheKeyChangesTheMask) {
  const std::vector<int32_t> ends{0, 8};
  const std::vector<uint64_t> ids{1}, other_ids{2}, far_ids{1 + (uint64_t{1} << 32)};
  const at::Tensor x = at::ones({8, 64}, dtype());
  const auto mask = [&](const DropoutKey& k) {
    const at::Tensor out = at::empty_like(x);
    dropout(out, x, {ends}, k);
    return out;
  };
  const at::Tensor base = mask(key(ids, 0.5));
  std::vector<DropoutKey> others(7, key(ids, 0.5));
  others[0].seed += 1;
  others[1].seed += uint64_t{1} << 32;
  others[2].step += 1;
  others[3].layer += 1;
  others[4].module += 1;
  others[5].sample_ids = other_ids;
  others[6].sample_ids = far_ids;
  for (const DropoutKey& other : others) {
    const double agreement = mask(other).eq(base).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(agreement, 0.5, 0.1);  // 512 fair draws: 4.5 standard deviations
  }
  EXPECT_FALSE(same_bits(base[0], base[1]));  // positions differ
}

TEST_P(Dropout, ZeroProbabilityCopies) {
  const std::vector<int32_t> ends{0, 3};
  const at::Tensor x = normal({3, 9}, dtype()), out = at::empty_like(x);
  dropout(out, x, {ends}, DropoutKey{});
  EXPECT_TRUE(same_bits(out, x));
}

TEST_P(Dropout, SameBitsForAnyThreads) {
  const std::vector<int32_t> ends{0, 100, 350, 400};
  const std::vector<uint64_t> ids{1, 2, 3};
  const at::Tensor x = normal({400, 200}, dtype());
  const auto run = [&](int threads) {
    const Threads scope(threads);
    const at::Tensor out = at::empty_like(x);
    dropout(out, x, {ends}, key(ids));
    return out;
  };
  EXPECT_TRUE(same_bits(run(1), run(2)));
}

TEST_P(Dropout, MissingSampleIdsAreABugOfOurs) {
  const std::vector<int32_t> ends{0, 1, 3};
  const std::vector<uint64_t> ids{1};
  const at::Tensor x = normal({3, 9}, dtype()), out = at::empty_like(x);
  EXPECT_THROW(dropout(out, x, {ends}, key(ids)), InternalError);
  EXPECT_THROW(dropout(out, x, {std::span(ends).first(2)}, key(ids)), InternalError);
}

FOR_ALL_KERNELS(Dropout);

}  // namespace
}  // namespace phi3tune::ops::test
