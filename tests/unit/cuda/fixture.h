// The ops through the CUDA back end, its kernels run by the host's execution layer, in each dtype that it computes in.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda/backend.h"
#include "cuda_on_host/testing.h"
#include "phi3tune/core/error.h"
#include "phi3tune/cuda/counters.h"
#include "phi3tune/ops/definitions.h"
#include "phi3tune/ops/ops.h"
#include "support/tensors.h"

namespace phi3tune::cuda::test {

using namespace phi3tune::test;
using at::Tensor;

class OnDevice : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(7);
    ops::choose_backend(open_backend(0));
  }
  void TearDown() override {
    ops::choose_backend(ops::cpu_backend());
    EXPECT_EQ(cuda_on_host::take_report(), "");
  }
};

class ByDtype : public OnDevice, public testing::WithParamInterface<at::ScalarType> {
 protected:
  at::ScalarType dtype() const { return GetParam(); }
};
#define FOR_BOTH_DTYPES(Suite)                                                        \
  INSTANTIATE_TEST_SUITE_P(Dtypes, Suite, testing::Values(at::kFloat, at::kBFloat16), \
                           [](const auto& info) { return std::string(c10::toString(info.param)); })

// A matrix whose rows are `room` elements further apart than they are wide; the room between them is guarded.
class Spaced {
 public:
  Spaced(at::IntArrayRef shape, at::ScalarType dtype, int64_t room) : room_(room) {
    buffer_ = at::full({shape[0], shape[1] + room}, kGuard, dtype);
    tensor_ = buffer_.narrow(1, 0, shape[1]);
    tensor_.fill_(std::numeric_limits<double>::quiet_NaN());  // an element that is not written shows
  }
  Spaced(const Tensor& values, int64_t room) : Spaced(values.sizes(), values.scalar_type(), room) {
    tensor_.copy_(values);
  }
  operator const Tensor&() const { return tensor_; }
  const Tensor& tensor() const { return tensor_; }
  Tensor room() const { return buffer_.narrow(1, tensor_.size(1), room_); }
  bool intact() const { return room().eq(kGuard).all().item<bool>(); }

 private:
  static constexpr double kGuard = 768.0;  // exact in every dtype
  int64_t room_;
  Tensor buffer_, tensor_;
};

inline Tensor exactly(const Tensor& values) { return values.to(at::kDouble); }

// Documents of these lengths, on the host and where the back end looks for them.
struct Packed {
  explicit Packed(const std::vector<int32_t>& lengths) {
    for (const int32_t length : lengths) {
      ends.push_back(ends.back() + length);
      ids.push_back(1000 + 17 * ids.size());
    }
    ends_tensor = at::tensor(ends, at::kInt);
    ids_tensor = at::empty({static_cast<int64_t>(ids.size())}, at::kLong);
    std::memcpy(ids_tensor.data_ptr(), ids.data(), ids_tensor.nbytes());
  }
  int64_t tokens() const { return ends.back(); }
  ops::Documents documents() const { return {ends, ends_tensor}; }
  ops::DropoutKey key(double p) const {
    return {
        .p = p, .seed = 11, .step = 5, .layer = 2, .module = 3, .sample_ids = ids, .sample_ids_on_device = ids_tensor};
  }
  std::vector<int32_t> ends{0};
  std::vector<uint64_t> ids;
  Tensor ends_tensor, ids_tensor;
};

}  // namespace phi3tune::cuda::test
