#include "mapped_tensor.h"

#include <ATen/ATen.h>

#include <cstring>

#include "phi3tune/model/dtype.h"

namespace phi3tune::model {
at::Tensor mapped_tensor(const phi3::LocatedTensor& located) {
  const auto bytes = located.data();
  const auto options = at::TensorOptions().dtype(scalar_type(located.entry->dtype));
  if (reinterpret_cast<uintptr_t>(bytes.data()) % io::dtype_size(located.entry->dtype) == 0) {
    // ATen has no read-only tensors: nothing in the engine writes to a weight, and the mapping would refuse it.
    return at::from_blob(const_cast<std::byte*>(bytes.data()), located.entry->shape, options);
  }
  auto copy = at::empty(located.entry->shape, options);
  std::memcpy(copy.data_ptr(), bytes.data(), bytes.size());
  return copy;
}

}  // namespace phi3tune::model
