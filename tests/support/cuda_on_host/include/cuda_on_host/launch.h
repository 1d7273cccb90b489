// Runs a grid on the calling thread. Same name and signature as the toolkit's.
#pragma once

#include <cuda_runtime_api.h>

#include <tuple>
#include <utility>

namespace cuda_on_host {
cudaError_t run_grid(const cudaLaunchConfig_t& config, const void* kernel, void (*thread)(void*), void* arguments);
}

template <class... Parameters, class... Arguments>
[[nodiscard]] cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                                             Arguments&&... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } call{kernel, {static_cast<Parameters>(std::forward<Arguments>(arguments))...}};
  return cuda_on_host::run_grid(
      *config, reinterpret_cast<const void*>(kernel),
      [](void* raw) {
        auto& bound = *static_cast<Call*>(raw);
        std::apply(bound.kernel, bound.arguments);
      },
      &call);
}

// How many blocks of a kernel an SM holds at once: two, as few as its two SMs, so that grid-stride loops really loop.
template <class... Parameters>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*)(Parameters...), int, size_t) {
  return *blocks = 2, cudaSuccess;
}

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
