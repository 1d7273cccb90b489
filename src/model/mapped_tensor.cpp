#include "mapped_tensor.h"

#include <ATen/ATen.h>

#include <cstring>

#include "phi3tune/core/error.h"

namespace phi3tune::model {
namespace {

at::ScalarType to_aten(io::DType dtype) {
  switch (dtype) {
    case io::DType::kF32:
      return at::kFloat;
    case io::DType::kBF16:
      return at::kBFloat16;
    case io::DType::kF16:
      return at::kHalf;
    default:
      throw InternalError("internal error: a weight of dtype {} passed the folder's check", io::dtype_name(dtype));
  }
}

}  // namespace

at::Tensor mapped_tensor(const phi3::LocatedTensor& located) {
  const auto bytes = located.data();
  const auto options = at::TensorOptions().dtype(to_aten(located.entry->dtype));
  if (reinterpret_cast<uintptr_t>(bytes.data()) % io::dtype_size(located.entry->dtype) == 0) {
    // ATen has no read-only tensors: nothing in the engine writes to a weight, and the mapping would refuse it.
    return at::from_blob(const_cast<std::byte*>(bytes.data()), located.entry->shape, options);
  }
  auto copy = at::empty(located.entry->shape, options);
  std::memcpy(copy.data_ptr(), bytes.data(), bytes.size());
  return copy;
}

}  // namespace phi3tune::model
