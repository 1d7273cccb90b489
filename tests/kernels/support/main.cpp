// Ends with 77 ("skipped") where the tests cannot run: on a host without the instructions of the fused build, or, built
// for a device, without one.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

namespace {

const char* cannot_run() {
#if !defined(CUDA_ON_HOST)
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  if (devices == 0) return "there is no device";
#elif defined(__FMA__)
  if (!__builtin_cpu_supports("fma")) return "this processor has no fused multiply-add";
#endif
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (const char* reason = cannot_run()) {
    std::printf("skipped: %s\n", reason);
    return 77;
  }
  return RUN_ALL_TESTS();
}
