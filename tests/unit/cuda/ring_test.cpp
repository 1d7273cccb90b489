#include "cuda/ring.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <utility>

namespace phi3tune::cuda {
namespace {

constexpr size_t kBytes = 4096;

// Whatever is taken and given back, no two ranges in use share a byte, and a full ring is empty again in the end.
TEST(Ring, RangesInUseNeverMeet) {
  std::mt19937 random(3);
  Ring ring(kBytes);
  std::deque<std::pair<size_t, size_t>> in_use;
  int taken = 0, refused = 0, round = 0;
  for (int i = 0; i < 20000; ++i) {
    const size_t bytes = 1 + random() % (random() % 2 == 0 ? 100 : kBytes / 2);
    if (const auto begin = ring.take(bytes)) {
      ASSERT_LE(*begin + bytes, kBytes);
      for (const auto& [other, end] : in_use) {
        ASSERT_TRUE(*begin + bytes <= other || end <= *begin) << i;
      }
      round += !in_use.empty() && *begin < in_use.back().first ? 1 : 0;
      in_use.emplace_back(*begin, *begin + bytes);
      ++taken;
    } else {
      ASSERT_FALSE(in_use.empty()) << "an empty ring has room for a half of it";
      ++refused;
    }
    while (!in_use.empty() && (random() % 3 == 0 || in_use.size() > 30)) {
      in_use.pop_front();
      ring.give_back_oldest();
    }
    ASSERT_EQ(ring.empty(), in_use.empty());
  }
  EXPECT_GT(taken, 5000);
  EXPECT_GT(refused, 500);
  EXPECT_GT(round, 100);
}

TEST(Ring, ItFillsToTheEndAndGoesOnAtTheStart) {
  Ring ring(kBytes);
  EXPECT_EQ(ring.take(2047), 0U);
  EXPECT_EQ(ring.take(2048), 2048U);  // ranges are aligned
  EXPECT_EQ(ring.take(1), std::nullopt);
  ring.give_back_oldest();
  EXPECT_EQ(ring.take(1984), 0U);
  EXPECT_EQ(ring.take(64), 1984U);
  EXPECT_EQ(ring.take(1), std::nullopt);
  ring.give_back_oldest();
  EXPECT_EQ(ring.take(2048), 2048U);
}

}  // namespace
}  // namespace phi3tune::cuda
