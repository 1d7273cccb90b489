#include "step_tensors.h"

#include <ATen/ATen.h>

#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::model {

std::byte* Arena::reserve(size_t bytes) {
  if (bytes > size_) {
    memory_ = at::Tensor();  // give back before taking more
    size_ = 0;
    try {
      memory_ = at::empty({static_cast<int64_t>(bytes)}, at::dtype(at::kByte));
    } catch (const c10::Error&) {
      throw ResourceError(
          "activations: {} could not be allocated; use a smaller micro_batch_size or sequence_len, or "
          "gradient_checkpointing: block",
          format_bytes(bytes));
    }
    size_ = bytes;
  }
  return static_cast<std::byte*>(memory_.data_ptr());
}

StepTensors::StepTensors(plan::StepBuffers buffers, Arena& arena, at::ScalarType compute_dtype)
    : buffers_(std::move(buffers)), base_(arena.reserve(buffers_.bytes)), compute_dtype_(compute_dtype) {}

at::Tensor StepTensors::view(const plan::Buffer& buffer, int64_t columns) const {
  const auto wide = compute_dtype_ == at::kDouble ? at::kDouble : at::kFloat;
  return at::from_blob(base_ + buffer.offset, {buffer.rows, columns < 0 ? buffer.cols : columns},
                       at::dtype(buffer.wide ? wide : compute_dtype_));
}

}  // namespace phi3tune::model
