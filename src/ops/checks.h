// What an op asks of its arguments before it touches memory. A failure is a bug of ours: InternalError.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>

#include "phi3tune/ops/ops.h"

namespace phi3tune::ops {

// Names the op in every message.
class Check {
 public:
  explicit Check(const char* op) noexcept : op_(op) {}

  // Defined, contiguous, of this dtype and shape.
  void tensor(const char* name, const at::Tensor& tensor, at::ScalarType dtype,
              std::initializer_list<int64_t> shape) const;
  // The same, but rows may be further apart than they are wide where the back end takes that.
  void rows(const char* name, const at::Tensor& tensor, at::ScalarType dtype,
            std::initializer_list<int64_t> shape) const;
  // float32, bfloat16 or float64.
  at::ScalarType compute_dtype(const char* name, const at::Tensor& tensor) const;
  // The size of one axis of a tensor that has `axes` of them.
  int64_t size(const char* name, const at::Tensor& tensor, int64_t axes, int64_t axis) const;
  void that(bool condition, const char* what) const;
  // cu_seqlens from 0 to M, never descending.
  void documents(const Documents& documents, int64_t tokens) const;
  void heads(const HeadShape& heads) const;
  // Probability, and a sample id for every document when there is dropout.
  void dropout(const DropoutKey& key, const Documents& documents) const;

 private:
  void shape_of(const char* name, const at::Tensor& tensor, at::ScalarType dtype,
                std::initializer_list<int64_t> shape) const;
  [[noreturn]] void refuse_layout(const char* name, const at::Tensor& tensor) const;

  const char* op_;
};

// float32 for float32 and bfloat16, float64 for float64.
at::ScalarType wide_dtype(at::ScalarType dtype) noexcept;

}  // namespace phi3tune::ops
