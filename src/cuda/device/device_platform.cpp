// The GPU's device, stream and ATen.
#include <ATen/Context.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>

#include <optional>

#include "cuda/calls.h"
#include "cuda/device/product.h"
#include "cuda/platform.h"

namespace phi3tune::cuda::platform {
namespace {

struct Opened {
  c10::DeviceIndex index;
  cudaStream_t stream;
};
std::optional<Opened> opened;
thread_local bool bound = false;

}  // namespace

at::Device device() { return {at::kCUDA, opened->index}; }

void open(int index, cudaStream_t stream) {
  opened = Opened{static_cast<c10::DeviceIndex>(index), stream};
  guarded("open", {}, [] {
    auto& context = at::globalContext();
    context.lazyInitDevice(at::kCUDA);
    // float32 is float32, and a sum in bfloat16 is taken in float32.
    context.setAllowTF32CuBLAS(false);
    context.setAllowTF32CuDNN(false);
    context.setAllowBF16ReductionCuBLAS(false);
    context.setDeterministicFillUninitializedMemory(false);
    bind_thread();
  });
  open_products();
}

void bind_thread() {
  if (bound || !opened) {
    return;
  }
  succeeded("open", cudaSetDevice(opened->index));
  c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromExternal(opened->stream, opened->index));
  bound = true;
}

size_t library_bytes() {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(opened->index);
  const auto aggregate = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return static_cast<size_t>(stats.reserved_bytes[aggregate].peak) + workspace_bytes();
}

size_t library_allocations() {
  return static_cast<size_t>(c10::cuda::CUDACachingAllocator::getDeviceStats(opened->index).num_device_alloc);
}

}  // namespace phi3tune::cuda::platform
