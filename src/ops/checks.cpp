#include "ops/checks.h"

#include <ATen/ATen.h>

#include <string>

#include "phi3tune/core/error.h"
#include "phi3tune/ops/backend.h"

namespace phi3tune::ops {
namespace {

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    text += (axis == 0 ? "" : ", ") + std::to_string(shape[axis]);
  }
  return text + "]";
}

}  // namespace

at::ScalarType wide_dtype(at::ScalarType dtype) noexcept { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

void Check::tensor(const char* name, const at::Tensor& tensor, at::ScalarType dtype,
                   std::initializer_list<int64_t> shape) const {
  shape_of(name, tensor, dtype, shape);
  if (!tensor.is_contiguous()) {
    refuse_layout(name, tensor);
  }
}

void Check::rows(const char* name, const at::Tensor& tensor, at::ScalarType dtype,
                 std::initializer_list<int64_t> shape) const {
  shape_of(name, tensor, dtype, shape);
  const bool rows_in_order = tensor.numel() == 0 || ((tensor.size(1) == 1 || tensor.stride(1) == 1) &&
                                                     (tensor.size(0) == 1 || tensor.stride(0) >= tensor.size(1)));
  if (!(backend().strided ? rows_in_order : tensor.is_contiguous())) {
    refuse_layout(name, tensor);
  }
}

void Check::shape_of(const char* name, const at::Tensor& tensor, at::ScalarType dtype,
                     std::initializer_list<int64_t> shape) const {
  const at::IntArrayRef wanted(shape.begin(), shape.size());
  if (!tensor.defined()) {
    throw InternalError("internal error: {}: {} is undefined, wanted {} {}", op_, name, c10::toString(dtype),
                        shape_text(wanted));
  }
  if (tensor.scalar_type() != dtype || tensor.sizes() != wanted) {
    throw InternalError("internal error: {}: {} is {} {}, wanted {} {}", op_, name, c10::toString(tensor.scalar_type()),
                        shape_text(tensor.sizes()), c10::toString(dtype), shape_text(wanted));
  }
}

void Check::refuse_layout(const char* name, const at::Tensor& tensor) const {
  throw InternalError("internal error: {}: {} {} is not contiguous (strides {})", op_, name, shape_text(tensor.sizes()),
                      shape_text(tensor.strides()));
}

at::ScalarType Check::compute_dtype(const char* name, const at::Tensor& tensor) const {
  that(tensor.defined(), name);
  const at::ScalarType dtype = tensor.scalar_type();
  if (dtype != at::kFloat && dtype != at::kBFloat16 && dtype != at::kDouble) {
    throw InternalError("internal error: {}: {} is {}, wanted float32, bfloat16 or float64", op_, name,
                        c10::toString(dtype));
  }
  return dtype;
}

int64_t Check::size(const char* name, const at::Tensor& tensor, int64_t axes, int64_t axis) const {
  that(tensor.defined(), name);
  if (tensor.dim() != axes) {
    throw InternalError("internal error: {}: {} is {}, wanted {} axes", op_, name, shape_text(tensor.sizes()), axes);
  }
  return tensor.size(axis);
}

void Check::that(bool condition, const char* what) const {
  if (!condition) {
    throw InternalError("internal error: {}: {}", op_, what);
  }
}

void Check::documents(const Documents& documents, int64_t tokens) const {
  const auto& ends = documents.cu_seqlens;
  that(!ends.empty() && ends.front() == 0, "cu_seqlens must start at 0");
  that(ends.back() == tokens, "cu_seqlens must end at the number of tokens");
  for (size_t i = 1; i < ends.size(); ++i) {
    that(ends[i - 1] <= ends[i], "cu_seqlens descends");
  }
}

void Check::heads(const HeadShape& heads) const {
  that(heads.num_heads > 0 && heads.num_kv_heads > 0 && heads.head_dim > 0, "a head count or width is not positive");
  that(heads.num_heads % heads.num_kv_heads == 0, "the heads are not a multiple of the key/value heads");
  that(heads.rotary_dim >= 0 && heads.rotary_dim <= heads.head_dim && heads.rotary_dim % 2 == 0,
       "rotary_dim is odd or larger than head_dim");
}

void Check::dropout(const DropoutKey& key, const Documents& documents) const {
  that(key.p >= 0.0 && key.p < 1.0, "dropout probability outside [0, 1)");
  that(key.p == 0.0 || key.sample_ids.size() + 1 == documents.cu_seqlens.size(),
       "dropout wants one sample id for every document");
}

}  // namespace phi3tune::ops
