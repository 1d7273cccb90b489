// Memory of the device, the staging ring, copies beside the computing, and what is counted.
#include <numeric>

#include "cuda/calls.h"
#include "fixture.h"

namespace phi3tune::cuda::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class DeviceMemory : public OnDevice {
 protected:
  const ops::Memory& memory() const { return ops::backend().memory; }
};

TEST_F(DeviceMemory, BlocksAreAlignedBytes) {
  const Tensor block = memory().allocate(1000);
  EXPECT_EQ(block.scalar_type(), at::kByte);
  EXPECT_EQ(block.numel(), 1000);
  EXPECT_EQ(block.device(), memory().device);
  EXPECT_EQ(memory().allocate(0).numel(), 0);
}

TEST_F(DeviceMemory, BytesGoInAndOut) {
  for (const int64_t n : {0, 1, 4097}) {
    const Tensor there = memory().allocate(static_cast<size_t>(n * 4)).view(at::kFloat);
    Tensor sent = normal({n}, at::kFloat);
    const Tensor kept = sent.clone();
    memory().upload(there, sent.data_ptr());
    sent.zero_();  // the bytes are the caller's again
    const Tensor back = at::zeros({n}, at::kFloat);
    const uint64_t waits = counters().synchronisations;
    memory().download(back.data_ptr(), there);
    EXPECT_TRUE(same_bits(back, kept));
    EXPECT_EQ(counters().synchronisations, waits + 1);
  }
}

TEST_F(DeviceMemory, RowsGoToPlacesFurtherApart) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 5}, {7, 33}, {3000, 1500}}) {  // 18 MB: in parts
    const Tensor sent = normal({rows, cols}, at::kFloat);
    const Spaced there({rows, cols}, at::kFloat, 8);
    memory().upload(there, sent.data_ptr());
    EXPECT_TRUE(same_bits(there.tensor().contiguous(), sent));
    EXPECT_TRUE(there.intact()) << rows;
  }
}

TEST_F(DeviceMemory, AnUploadMayBeLargerThanTheRing) {
  std::vector<uint32_t> sent(25'000'000);  // 100 MB
  std::iota(sent.begin(), sent.end(), 1U);
  const Tensor there = memory().allocate(sent.size() * 4);
  memory().upload(there, sent.data());
  EXPECT_EQ(std::memcmp(there.data_ptr(), sent.data(), sent.size() * 4), 0);
}

TEST_F(DeviceMemory, ActivationsGoToTheHostAndComeBack) {
  const Tensor host = memory().allocate_host(4096).view(at::kFloat);
  const Tensor sent = normal({1024}, at::kFloat);
  const Tensor there = sent.clone();
  memory().offload(host, there, 3);
  memory().await(3);
  there.zero_();
  memory().fetch(there, host, 0);
  memory().await(0);
  EXPECT_TRUE(same_bits(there, sent));
  EXPECT_THROW(memory().await(4), InternalError);
}

TEST_F(DeviceMemory, RoomIsTotalAndFree) {
  const auto room = memory().room();
  EXPECT_GT(room.total, 0U);
  EXPECT_LE(room.free, room.total);
}

TEST_F(DeviceMemory, AStepNeitherWaitsNorAllocates) {
  const Tensor x = normal({4, 64}, at::kBFloat16), weight = normal({64}, at::kBFloat16);
  const Tensor y = at::empty_like(x), rstd = at::empty({4}, at::kFloat);
  const Tensor gradients = normal({64}, at::kFloat), control = at::zeros({2}, at::kDouble),
               norm = at::zeros({1}, at::kDouble), partials = at::zeros({1}, at::kDouble),
               losses = at::zeros({1, 2}, at::kDouble);
  const Tensor logits = normal({4, 64}, at::kBFloat16), targets = at::zeros({4}, at::kLong),
               weights = at::ones({4}, at::kFloat), row_losses = at::empty({2, 4}, at::kFloat);
  const Counters before = counters();
  cuda_on_host::take_call_counts();
  const int64_t id = 3;
  memory().upload(targets[0], &id);
  ops::rms_norm(y, rstd, x, weight, 1e-5);
  ops::linear(y, x, {.matrix = normal({64, 64}, at::kBFloat16), .extended = {}});
  ops::cross_entropy(losses[0], row_losses, logits, targets, weights, 1.0, true);
  ops::step_norm(control, norm, losses, partials, gradients, 1.0);
  ops::adamw(gradients.clone(), gradients, gradients.clone(), gradients.square(), {}, {}, control);
  EXPECT_GE(counters().launches - before.launches, 5U);
  EXPECT_EQ(counters().gemms - before.gemms, 1U);
  EXPECT_EQ(counters().synchronisations, before.synchronisations);
  EXPECT_EQ(counters().allocations, before.allocations);
  const auto calls = cuda_on_host::take_call_counts();
  EXPECT_EQ(calls.synchronisations, 0U);
  EXPECT_EQ(calls.allocations, 0U);
}

TEST_F(DeviceMemory, AFaultNamesOpShapesAndTheWayOut) {
  const Tensor x = at::empty({3, 5}), none;
  try {
    launched("rms_norm", cudaErrorLaunchFailure, {&x, &none, &x});
    FAIL();
  } catch (const ResourceError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("rms_norm of [3, 5], [3, 5]: "), HasSubstr("CUDA_LAUNCH_BLOCKING=1")));
  }
}

TEST_F(DeviceMemory, Float64IsRefused) {
  const Tensor x = normal({2, 8}, at::kDouble);
  try {
    ops::linear(at::empty_like(x), x, {.matrix = normal({8, 8}, at::kDouble), .extended = {}});
    FAIL();
  } catch (const InternalError& error) {
    EXPECT_THAT(error.what(), HasSubstr("linear: Double on a GPU"));
  }
  EXPECT_THROW(ops::add(at::empty_like(x), x, x), InternalError);
}

}  // namespace
}  // namespace phi3tune::cuda::test
