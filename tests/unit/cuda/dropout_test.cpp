#include "fixture.h"

namespace phi3tune::cuda::test {
namespace {

class Dropout : public ByDtype {};

TEST_P(Dropout, MasksAreThoseOfTheDefinition) {
  for (const int64_t columns : {1, 7, 64, 131}) {
    const Packed packed({3, 0, 10, 1});
    const Spaced x(normal({packed.tokens(), columns}, dtype()), 8);
    const auto key = packed.key(0.3);
    const Guarded out({packed.tokens(), columns}, dtype());
    ops::dropout(out, x, packed.documents(), key);
    const Tensor expected = ops::definition::dropout(x.tensor().contiguous(), packed.documents(), key);
    EXPECT_TRUE(at::equal(out.tensor().eq(0), expected.eq(0)));
    expect_close(out, expected, ops::definition::dropout(exactly(x).contiguous(), packed.documents(), key));
    EXPECT_TRUE(out.intact() && x.intact());
  }
}

TEST_P(Dropout, NothingIsDroppedTwiceTheSameWay) {
  const Packed packed({16});
  const Tensor x = at::ones({16, 64}, dtype());
  const Guarded first({16, 64}, dtype()), second({16, 64}, dtype());
  auto key = packed.key(0.5);
  ops::dropout(first, x, packed.documents(), key);
  ++key.step;
  ops::dropout(second, x, packed.documents(), key);
  EXPECT_FALSE(same_bits(first, second));
}

TEST_P(Dropout, NoiseIsThatOfTheDefinition) {
  for (const int64_t columns : {1, 7, 64, 131}) {
    const Packed packed({3, 0, 10, 1});
    const auto drop = packed.key(0.3);
    const ops::NoiseKey key{5.0, drop.seed, drop.step, drop.sample_ids, drop.sample_ids_on_device};
    const Tensor x = normal({packed.tokens(), columns}, dtype());
    const Guarded out(x);
    ops::add_noise(out, packed.documents(), key);
    const Tensor noise = ops::definition::noise(columns, packed.documents(), key, at::kFloat);
    EXPECT_TRUE(same_bits(out.tensor().clone(), (x.to(at::kFloat) + noise).to(dtype())));
    EXPECT_TRUE(out.intact());
  }
}

FOR_BOTH_DTYPES(Dropout);

}  // namespace
}  // namespace phi3tune::cuda::test
