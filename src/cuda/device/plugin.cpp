// What the plug-in shows, and what it says of the machine.
#include "phi3tune/cuda/plugin.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "cuda/backend.h"
#include "cuda/platform.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::cuda {
namespace {

constexpr int kOldestMajor = 8;  // of the GPUs that the kernels are compiled for

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

// The number of GPUs. ResourceError where there is nothing to compute on.
int device_count() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    throw ResourceError("the NVIDIA driver does not answer: `nvidia-smi` must list a GPU first");
  }
  if (driver < CUDART_VERSION / 1000 * 1000) {
    throw ResourceError("the NVIDIA driver serves CUDA up to {}, this program wants {}: a driver 580 or newer",
                        version_text(driver), version_text(CUDART_VERSION / 1000 * 1000));
  }
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    throw ResourceError("the driver shows no GPU: {} ({}); CUDA_VISIBLE_DEVICES hides them too",
                        cudaGetErrorString(status), cudaGetErrorName(status));
  }
  if (count == 0) {
    throw ResourceError("the driver shows no GPU; CUDA_VISIBLE_DEVICES hides them too");
  }
  return count;
}

cudaDeviceProp properties(int index) {
  cudaDeviceProp found{};
  const cudaError_t status = cudaGetDeviceProperties(&found, index);
  if (status != cudaSuccess) {
    throw ResourceError("GPU {} does not answer: {} ({})", index, cudaGetErrorString(status), cudaGetErrorName(status));
  }
  return found;
}

void check_device(int index) {
  const int count = device_count();
  if (index < 0 || index >= count) {
    throw ResourceError("there is no GPU {}: this machine shows {} (device_index counts from 0)", index, count);
  }
  const auto gpu = properties(index);
  if (gpu.major < kOldestMajor) {
    throw ResourceError("GPU {} is a {} of compute capability {}.{}; the kernels are compiled for {}.0 and newer",
                        index, gpu.name, gpu.major, gpu.minor, kOldestMajor);
  }
}

}  // namespace
}  // namespace phi3tune::cuda

using namespace phi3tune;

extern "C" {

const ops::Backend& phi3tune_cuda_open(int device_index) {
  cuda::check_device(device_index);
  return cuda::open_backend(device_index);
}

void phi3tune_cuda_describe(cuda::Facts& facts) {
  int driver = 0;
  static_cast<void>(cudaDriverGetVersion(&driver));
  int runtime = 0;
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
  facts.emplace_back("CUDA runtime", cuda::version_text(runtime));
  facts.emplace_back("CUDA of the driver", driver == 0 ? "none" : cuda::version_text(driver));
  const size_t cublas = cublasLtGetVersion();
  facts.emplace_back("cuBLASLt", fmt::format("{}.{}.{}", cublas / 10000, cublas / 100 % 100, cublas % 100));
  const int count = cuda::device_count();
  for (int index = 0; index < count; ++index) {
    const auto gpu = cuda::properties(index);
    facts.emplace_back(fmt::format("GPU {}", index),
                       fmt::format("{}, compute capability {}.{}, {} multiprocessors, {}{}", gpu.name, gpu.major,
                                   gpu.minor, gpu.multiProcessorCount, format_bytes(gpu.totalGlobalMem),
                                   gpu.major < cuda::kOldestMajor ? ": older than the kernels are compiled for" : ""));
  }
  facts.emplace_back("cuDNN", std::to_string(at::detail::getCUDAHooks().versionRuntimeCuDNN()));
}

const cuda::Counters& phi3tune_cuda_counters() {
  cuda::counters().library_allocations = cuda::platform::library_allocations();
  return cuda::counters();
}

}  // extern "C"
