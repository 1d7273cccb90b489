#include "cuda/calls.h"

#include <fmt/format.h>

#include "phi3tune/core/error.h"
#include "phi3tune/cuda/counters.h"

namespace phi3tune::cuda {
namespace {

constexpr const char* kLessMemory =
    "shorter micro-batches, or gradient_checkpointing: block, take less; nvidia-smi shows who else uses the GPU";

std::string place(const char* op, std::initializer_list<const at::Tensor*> shapes) {
  const std::string shape = shapes_text(shapes);
  return shape.empty() ? std::string(op) : fmt::format("{} of {}", op, shape);
}

}  // namespace

Counters& counters() noexcept {
  static Counters counted;
  return counted;
}

std::string shapes_text(std::initializer_list<const at::Tensor*> tensors) {
  std::string text;
  for (const at::Tensor* tensor : tensors) {
    if (!tensor->defined()) {
      continue;
    }
    text += text.empty() ? "[" : ", [";
    for (int64_t axis = 0; axis < tensor->dim(); ++axis) {
      text += (axis == 0 ? "" : ", ") + std::to_string(tensor->size(axis));
    }
    text += "]";
  }
  return text;
}

void succeeded(const char* op, cudaError_t status, std::initializer_list<const at::Tensor*> shapes) {
  if (status == cudaSuccess) {
    return;
  }
  const auto what = fmt::format("{}: {} ({})", place(op, shapes), cudaGetErrorString(status), cudaGetErrorName(status));
  if (status == cudaErrorMemoryAllocation) {
    throw ResourceError("{}; {}", what, kLessMemory);
  }
  throw ResourceError(
      "{}; the device reports a fault when it comes to it, so an earlier op may be to blame: "
      "CUDA_LAUNCH_BLOCKING=1 makes it the op named here, and `dmesg | grep -i xid` names a fault of the "
      "hardware",
      what);
}

void library_failed(const char* op, const c10::Error& error, std::initializer_list<const at::Tensor*> shapes) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) {
    throw ResourceError("{}: the GPU has no memory left for what libtorch keeps beside the plan; {}", place(op, shapes),
                        kLessMemory);
  }
  const std::string text = error.what_without_backtrace();
  throw ResourceError("{}: {}", place(op, shapes), text.substr(0, text.find('\n')));
}

void launched(const char* op, cudaError_t status, std::initializer_list<const at::Tensor*> shapes) {
  ++counters().launches;
  succeeded(op, status, shapes);
}

void refuse_dtype(const char* op, at::ScalarType dtype) {
  throw InternalError("internal error: {}: {} on a GPU; its kernels compute in float32 or bfloat16", op,
                      c10::toString(dtype));
}

}  // namespace phi3tune::cuda
