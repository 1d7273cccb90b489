// Tensors for the tests of tensor operations: inputs, guard values, errors, autograd as the oracle.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

namespace phi3tune::test {

inline at::Tensor normal(at::IntArrayRef shape, at::ScalarType dtype, double deviation = 1.0) {
  return (at::randn(shape, at::kDouble) * deviation).to(dtype);
}

// A tensor inside a larger buffer whose other elements are guards. `offset` elements come before it, so that it need
// not lie as the allocator would lay it.
class Guarded {
 public:
  Guarded(at::IntArrayRef shape, at::ScalarType dtype, int64_t offset = 3)
      : offset_(offset), numel_(c10::multiply_integers(shape)) {
    buffer_ = at::full({offset + numel_ + kAfter}, kGuard, dtype);
    tensor_ = buffer_.narrow(0, offset, numel_).view(shape);
    tensor_.fill_(std::numeric_limits<double>::quiet_NaN());  // an element that is not written shows
  }
  Guarded(const at::Tensor& values, int64_t offset = 3) : Guarded(values.sizes(), values.scalar_type(), offset) {
    tensor_.copy_(values);
  }
  operator const at::Tensor&() const { return tensor_; }
  const at::Tensor& tensor() const { return tensor_; }
  bool intact() const {
    return buffer_.narrow(0, 0, offset_).eq(kGuard).all().item<bool>() &&
           buffer_.narrow(0, offset_ + numel_, kAfter).eq(kGuard).all().item<bool>();
  }

 private:
  static constexpr int64_t kAfter = 67;
  static constexpr double kGuard = 768.0;  // exact in every dtype
  int64_t offset_;
  int64_t numel_;
  at::Tensor buffer_, tensor_;
};

// Largest |a - b|; infinity where one is not finite.
inline double max_error(const at::Tensor& ours, const at::Tensor& exact) {
  if (exact.numel() == 0) {
    return 0.0;
  }
  const at::Tensor difference = (ours.to(at::kDouble) - exact.to(at::kDouble)).abs();
  return difference.isfinite().all().item<bool>() ? difference.max().item<double>()
                                                  : std::numeric_limits<double>::infinity();
}
// max |a - b| / max |b|.
inline double relative_error(const at::Tensor& ours, const at::Tensor& exact) {
  const double error = max_error(ours, exact);
  return error == 0.0 ? 0.0 : error / exact.to(at::kDouble).abs().max().item<double>();
}

inline double unit_roundoff(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? 0x1p-9 : dtype == at::kFloat ? 0x1p-24 : 0x1p-53;
}

// float64: 1e-9 of the largest value. Else: no worse than twice ATen's own error in that dtype, both against float64;
// or, where that happens to be tiny, one rounding of the largest value in bfloat16, and eight in float32, where the
// order of a sum moves the last bits. `scale` is that largest value, unless the tensor is a part of something larger.
inline void expect_close(const at::Tensor& ours, const at::Tensor& aten, const at::Tensor& exact, double scale = 0.0) {
  ASSERT_EQ(ours.sizes(), exact.sizes());
  if (exact.numel() == 0) {
    return;
  }
  const double largest = std::max(scale, exact.to(at::kDouble).abs().max().item<double>());
  if (ours.scalar_type() == at::kDouble) {
    EXPECT_LE(max_error(ours, exact), 1e-9 * largest);
    return;
  }
  const double roundings = ours.scalar_type() == at::kBFloat16 ? 1.0 : 8.0;
  EXPECT_LE(max_error(ours, exact),
            std::max(2 * max_error(aten, exact), roundings * unit_roundoff(ours.scalar_type()) * largest));
}

// Gradients of sum(f(inputs) * upstream) by autograd, in the dtype of the inputs.
inline std::vector<at::Tensor> gradients(const std::function<at::Tensor(const std::vector<at::Tensor>&)>& f,
                                         const std::vector<at::Tensor>& inputs, const at::Tensor& upstream) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(input.detach().clone().set_requires_grad(true));
  }
  f(leaves).backward(upstream);
  std::vector<at::Tensor> result;
  for (const at::Tensor& leaf : leaves) {
    result.push_back(leaf.grad());
  }
  return result;
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor left = a.contiguous();
  const at::Tensor right = b.contiguous();
  return left.nbytes() == right.nbytes() &&
         (left.nbytes() == 0 || std::memcmp(left.data_ptr(), right.data_ptr(), left.nbytes()) == 0);
}

// Sets the thread count of a scope.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }

 private:
  int before_;
};

}  // namespace phi3tune::test
