// Element i of a head turns with i + rotary_dim / 2, in place; everything else of the row keeps its bits.
#include "kernel_test.h"
#include "kernels.h"
#include "rows.h"

namespace phi3tune::kernels {
namespace {

using namespace kernel_test;

struct Case {
  int64_t rows;
  int rotated, heads, head_dim, rotary_dim;
  int64_t gap = 0;
  size_t offset = 0;        // elements before qkv
  size_t table_offset = 0;  // elements before the cosines and sines
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.rows << " rows, " << c.rotated << " of " << c.heads << " heads, " << c.rotary_dim << " of " << c.head_dim
       << ", gap " << c.gap << ", offsets " << c.offset << ", " << c.table_offset;
}

template <class T>
void turns(const Case& c, bool inverse) {
  const int64_t width = int64_t{c.heads} * c.head_dim, ld = width + c.gap;
  const int half = c.rotary_dim / 2;
  const auto qkv = random_values<T>(static_cast<size_t>(c.rows * width), 1.5, 1);
  // Not on the unit circle: LongRoPE multiplies its attention factor in.
  const auto cosine = random_values<float>(static_cast<size_t>(c.rows * half), 0.8, 2);
  const auto sine = random_values<float>(static_cast<size_t>(c.rows * half), 0.8, 3);
  std::vector<double> exact = in_fp64(qkv), terms(qkv.size(), 0.0);
  for (int64_t row = 0; row < c.rows; ++row) {
    for (int head = 0; head < c.rotated; ++head) {
      for (int i = 0; i < half; ++i) {
        const auto first = static_cast<size_t>(row * width + int64_t{head} * c.head_dim + i),
                   second = first + static_cast<size_t>(half);
        const double cos = cosine[static_cast<size_t>(row * half + i)];
        const double sin = sine[static_cast<size_t>(row * half + i)] * (inverse ? -1.0 : 1.0);
        const double a = real(qkv[first]), b = real(qkv[second]);
        exact[first] = a * cos - b * sin;
        exact[second] = b * cos + a * sin;
        // Two products and a sum in fp32.
        terms[first] = 0x1p-23 * (std::abs(a * cos) + std::abs(b * sin));
        terms[second] = 0x1p-23 * (std::abs(b * cos) + std::abs(a * sin));
      }
    }
  }
  const Buffer<float> d_cosine(cosine, c.table_offset), d_sine(sine, c.table_offset);
  const auto ours = under_all_schedules([&] {
    const Buffer<T> d_qkv(spread(qkv, width, ld), c.offset);
    EXPECT_EQ(rope(d_qkv.data(), ld, d_cosine.data(), d_sine.data(), c.rows, c.rotated, c.head_dim, c.rotary_dim,
                   inverse, nullptr),
              cudaSuccess);
    return d_qkv.download();
  });
  const auto got = gathered(ours, c.rows, width, ld);
  expect_rounded(got, exact, [&](size_t i) { return terms[i]; });
  auto kept = got;  // what does not turn has its old bits
  for (size_t i = 0; i < kept.size(); ++i)
    if (terms[i] == 0) kept[i] = qkv[i];
  expect_bits(ours, spread(kept, width, ld));
}

class Rope : public ::testing::TestWithParam<Case> {};
TEST_P(Rope, TurnsBfloat16) { turns<bf16>(GetParam(), false); }
TEST_P(Rope, TurnsBfloat16Back) { turns<bf16>(GetParam(), true); }
TEST_P(Rope, TurnsFloat32) { turns<float>(GetParam(), false); }
TEST_P(Rope, TurnsFloat32Back) { turns<float>(GetParam(), true); }

INSTANTIATE_TEST_SUITE_P(Models, Rope, ::testing::Values(Case{2, 64, 96, 96, 96}, Case{2, 50, 60, 128, 128}));
// Half a head of 1, 3, 4, 7, 8, 12 (a multiple of 4 but not 8), 300 (more than threads); part of a head, also where
// only the rows and the turning part allow vectors; one head more than fits a round.
INSTANTIATE_TEST_SUITE_P(Sizes, Rope,
                         ::testing::Values(Case{1, 1, 1, 2, 2}, Case{3, 2, 3, 6, 6}, Case{3, 2, 3, 8, 8},
                                           Case{5, 4, 6, 14, 14}, Case{5, 4, 6, 16, 16}, Case{3, 5, 7, 24, 24},
                                           Case{2, 3, 4, 600, 600}, Case{3, 5, 7, 96, 48}, Case{3, 5, 7, 96, 72},
                                           Case{3, 3, 4, 20, 16}, Case{3, 3, 4, 18, 8}, Case{2, 33, 34, 128, 128},
                                           Case{2, 7, 7, 96, 96}));
INSTANTIATE_TEST_SUITE_P(Distances, Rope,
                         ::testing::Values(Case{3, 4, 6, 32, 32, 16}, Case{3, 4, 6, 32, 32, 4},
                                           Case{3, 4, 6, 32, 32, 1}));
INSTANTIATE_TEST_SUITE_P(Addresses, Rope,
                         ::testing::Values(Case{3, 4, 6, 32, 32, 0, 1}, Case{3, 4, 6, 32, 32, 0, 4},
                                           Case{3, 4, 6, 32, 32, 0, 0, 1}));

TEST(RopeLaunch, NothingToTurnIsNoLaunch) {
  float* none = nullptr;
  EXPECT_EQ(rope(none, 96, none, none, 0, 1, 96, 96, false, nullptr), cudaSuccess);
  EXPECT_EQ(rope(none, 96, none, none, 1, 0, 96, 96, false, nullptr), cudaSuccess);
  EXPECT_EQ(rope(none, 96, none, none, 1, 1, 96, 0, false, nullptr), cudaSuccess);
}

}  // namespace
}  // namespace phi3tune::kernels
