// The seam between the engine and libphi3tune_cuda.so, which it loads where there is a driver: C symbols, found by
// dlsym. Built together; errors cross as phi3tune::Error.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "phi3tune/cuda/counters.h"
#include "phi3tune/ops/backend.h"

namespace phi3tune::cuda {

using Facts = std::vector<std::pair<std::string, std::string>>;

// The back end of one GPU; once for the process. ResourceError: an old driver, no GPU, no such index, a GPU that the
// kernels are not compiled for.
using PluginOpen = const ops::Backend&(int device_index);
// Appends what a bug report wants of driver, GPUs and libraries; opens nothing. Throws as PluginOpen does.
using PluginDescribe = void(Facts& facts);
// After PluginOpen.
using PluginCounters = const Counters&();

inline constexpr const char* kPluginLibrary = "libphi3tune_cuda.so";
inline constexpr const char* kPluginOpenSymbol = "phi3tune_cuda_open";
inline constexpr const char* kPluginDescribeSymbol = "phi3tune_cuda_describe";
inline constexpr const char* kPluginCountersSymbol = "phi3tune_cuda_counters";

}  // namespace phi3tune::cuda

// Defined by the plug-in (src/cuda/device). Its names are C's, so that dlsym finds them; its types are not.
#pragma GCC diagnostic push
#if defined(__clang__)
#pragma GCC diagnostic ignored "-Wreturn-type-c-linkage"
#endif
extern "C" {
phi3tune::cuda::PluginOpen phi3tune_cuda_open;
phi3tune::cuda::PluginDescribe phi3tune_cuda_describe;
phi3tune::cuda::PluginCounters phi3tune_cuda_counters;
}
#pragma GCC diagnostic pop
