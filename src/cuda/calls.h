// What every op here needs: the stream, pointers of the right type, and a look at every status.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels.h"

namespace phi3tune::cuda {

using kernels::bf16;

// The stream that all ops are ordered on; binds the calling thread to the device. InternalError before open().
cudaStream_t stream();

// Looks at what a launcher returned, and counts it. ResourceError naming the op, the shapes and the way out.
void launched(const char* op, cudaError_t status, std::initializer_list<const at::Tensor*> shapes = {});
// The same for a call of the runtime that launches nothing.
void succeeded(const char* op, cudaError_t status, std::initializer_list<const at::Tensor*> shapes = {});

// What libtorch threw, as our error.
[[noreturn]] void library_failed(const char* op, const c10::Error& error,
                                 std::initializer_list<const at::Tensor*> shapes);
// f(), which calls libtorch.
template <typename F>
void guarded(const char* op, std::initializer_list<const at::Tensor*> shapes, const F& f) {
  try {
    f();
  } catch (const c10::Error& error) {
    library_failed(op, error, shapes);
  }
}

// "[4096, 3072], [4096]"
std::string shapes_text(std::initializer_list<const at::Tensor*> tensors);

[[noreturn]] void refuse_dtype(const char* op, at::ScalarType dtype);

// f(T{}), T the element's type: float or bf16. InternalError for others: kernels know no float64.
template <typename F>
void with_dtype(const char* op, at::ScalarType dtype, const F& f) {
  switch (dtype) {
    case at::kFloat:
      return f(float{});
    case at::kBFloat16:
      return f(bf16{});
    default:
      refuse_dtype(op, dtype);
  }
}

// nullptr of an undefined tensor.
template <typename T>
T* data(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
}

// Elements between two rows.
inline int64_t ld(const at::Tensor& matrix) { return std::max(matrix.stride(0), matrix.size(1)); }

}  // namespace phi3tune::cuda
