#include "step_tensors.h"

#include <ATen/ATen.h>

#include <utility>

namespace phi3tune::model {

StepTensors::StepTensors(plan::StepBuffers buffers, Arena& arena, at::ScalarType compute_dtype)
    : buffers_(std::move(buffers)),
      block_(arena.part(plan::Part::kStep, buffers_.bytes)),
      compute_dtype_(compute_dtype) {}

at::ScalarType StepTensors::dtype(const plan::Buffer& buffer) const {
  switch (buffer.element) {
    case plan::Element::kCompute:
      return compute_dtype_;
    case plan::Element::kWide:
      return compute_dtype_ == at::kDouble ? at::kDouble : at::kFloat;
    case plan::Element::kInt64:
      return at::kLong;
    case plan::Element::kInt32:
      return at::kInt;
  }
  return compute_dtype_;
}

at::Tensor StepTensors::view(const plan::Buffer& buffer) const {
  return model::view(block_, buffer.offset, dtype(buffer), buffer.rows, buffer.cols, buffer.ld);
}

at::Tensor StepTensors::flat(const plan::Buffer& buffer) const {
  return model::view(block_, buffer.offset, dtype(buffer), buffer.rows * buffer.cols);
}

at::Tensor StepTensors::dropped(int64_t columns) const {
  if (buffers_.dropped.rows == 0) {
    return {};
  }
  return model::view(block_, buffers_.dropped.offset, compute_dtype_, buffers_.dropped.rows, columns, columns);
}

at::Tensor StepTensors::scaled(int64_t columns) const {
  if (buffers_.scaled.rows == 0) {
    return {};
  }
  return model::view(block_, buffers_.scaled.offset, compute_dtype_, buffers_.scaled.rows, columns, columns);
}

at::Tensor StepTensors::d_lora(const at::Tensor& dy, int64_t rank, bool extended) const {
  if (extended) {
    return dy.as_strided({dy.size(0), rank}, dy.strides(), dy.storage_offset() + dy.size(1));
  }
  return model::view(block_, buffers_.d_lora.offset, compute_dtype_, buffers_.d_lora.rows, rank, rank);
}

}  // namespace phi3tune::model
