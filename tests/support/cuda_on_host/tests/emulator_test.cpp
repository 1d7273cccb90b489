// The emulator must itself go red: every fault it promises to find is made on purpose here.
#include <cuda_on_host/testing.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "faulty.h"
#include "kernel_test.h"

using namespace cuda_on_host;
using ::testing::HasSubstr;

namespace {

std::string run(Fault fault, uint64_t seed = 2) {
  set_schedule(seed);
  take_report();
  const phi3tune::kernel_test::Buffer<int> out(std::vector<int>(256, 0));
  const cudaError_t status = run_faulty(fault, out.data());
  const std::string report = take_report();
  EXPECT_EQ(status == cudaSuccess, report.empty()) << report;
  return report;
}

// What is only seen by one build.
class Checker : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!checks_memory()) GTEST_SKIP() << "not the checked build";
  }
};

TEST(Emulator, GivesThreeDimensionalIndicesAndWarpOperations) {
  for (uint64_t seed = 0; seed < 8; ++seed) EXPECT_EQ(run(Fault::kNone, seed), "");
}
TEST(Emulator, NamesThreadsThatSkipABarrier) {
  const std::string report = run(Fault::kExitBeforeBarrier);
  EXPECT_THAT(report, HasSubstr("exit without the __syncthreads"));
  EXPECT_THAT(report, HasSubstr("block (0,0,0) thread (7,0,0)"));
  EXPECT_THAT(report, HasSubstr("schedule 2"));
}
TEST(Emulator, RefusesTwoBarriersAtOnce) {
  EXPECT_THAT(run(Fault::kDivergentBarrier), HasSubstr("different __syncthreads"));
}
TEST(Emulator, RefusesAMaskWithoutTheCaller) {
  EXPECT_THAT(run(Fault::kMaskWithoutCaller), HasSubstr("leaves its own lane"));
}
TEST(Emulator, ReportsLanesThatNeverCome) { EXPECT_THAT(run(Fault::kLaneNeverComes), HasSubstr("cannot go on")); }
TEST(Emulator, RefusesAnUnawaitedCopy) { EXPECT_THAT(run(Fault::kCopyNeverAwaited), HasSubstr("never waited")); }
TEST(Emulator, ReportsATrap) {
  const std::string report = run(Fault::kTrap);
  EXPECT_THAT(report, HasSubstr("thread (9,0,0)"));
  EXPECT_THAT(report, HasSubstr("calls __trap"));
}
TEST(Emulator, FindsAWriteBehindABuffer) {
  if (has_address_sanitizer()) {
    EXPECT_DEATH(run(Fault::kWriteBehind), "AddressSanitizer");
  } else if (checks_memory()) {
    EXPECT_THAT(run(Fault::kWriteBehind), HasSubstr("writes 4 bytes at byte 1024 of a buffer of 1024 bytes"));
  } else {
    EXPECT_THAT(run(Fault::kWriteBehind), HasSubstr("wrote outside a buffer of 1024 bytes"));
  }
}
TEST(Emulator, GoesOnAfterAFault) {
  run(Fault::kDivergentBarrier);
  EXPECT_EQ(run(Fault::kNone), "");
}
TEST(Emulator, CountsCalls) {
  take_call_counts();
  run(Fault::kNone);
  const CallCounts counts = take_call_counts();
  EXPECT_EQ(counts.launches, 1u);
  EXPECT_EQ(counts.allocations, 1u);
  EXPECT_EQ(counts.synchronisations, 1u);  // the upload
}
TEST_F(Checker, FindsAMissingBarrier) { EXPECT_THAT(run(Fault::kMissingBarrier), HasSubstr("race, ")); }
TEST_F(Checker, FindsAMissingSyncwarp) { EXPECT_THAT(run(Fault::kMissingSyncwarp), HasSubstr("race, ")); }
TEST_F(Checker, FindsARaceBetweenBlocks) {
  EXPECT_THAT(run(Fault::kBlocksWriteTheSame), HasSubstr("write after write"));
}
TEST_F(Checker, FindsUnwrittenSharedMemory) {
  EXPECT_THAT(run(Fault::kUnwrittenShared), HasSubstr("of __shared__ words, which nobody wrote"));
}
TEST_F(Checker, FindsAReadBehindABuffer) {
  EXPECT_THAT(run(Fault::kReadBehind), HasSubstr("reads 4 bytes at byte 1024"));
}

}  // namespace
