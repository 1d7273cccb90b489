// The functions of the CUDA runtime that launchers, the back end and tests call. Everything has ended when a call
// returns, so streams and events are only names.
#include "runtime.h"

#include <cuda_runtime.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "checker.h"
#include "cuda_on_host/testing.h"
#include "machine.h"
#include "memory.h"

namespace cuda_on_host {
namespace {

constexpr size_t kMostSharedBytes = 227 * 1024;  // of sm_90 and sm_100
constexpr size_t kDeviceMemory = size_t{8} << 30;

std::map<const void*, size_t> limits;
CallCounts counts;
uint32_t launches_counted = 0;

using Clock = std::chrono::steady_clock;

}  // namespace

size_t dynamic_shared_limit(const void* kernel) {
  const auto found = limits.find(kernel);
  return found == limits.end() ? 48 * 1024 : found->second;
}

CallCounts take_call_counts() {
  CallCounts taken = std::exchange(counts, {});
  taken.launches = machine.launches - std::exchange(launches_counted, machine.launches);
  return taken;
}

bool has_address_sanitizer() {
#if defined(__SANITIZE_ADDRESS__)
  return true;
#else
  return false;
#endif
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

struct CUstream_st {};
struct CUevent_st {
  Clock::time_point recorded;
};

extern "C" {

// ---- the device ----
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 2;
      break;  // few, so that grid-stride loops really loop
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(kMostSharedBytes);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = 48 * 1024;
      break;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 2048;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    default:
      *value = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return *free = *total = kDeviceMemory, cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return ++counts.synchronisations, cudaSuccess; }

// ---- errors ----
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaSuccess ? "cudaSuccess" : "an error of the emulator";
}
const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaSuccess ? "no error" : "the emulator refused or stopped the launch; see take_report()";
}

// ---- memory ----
cudaError_t cudaMalloc(void** pointer, size_t size) {
  ++counts.allocations;
  *pointer = allocate_global(size);
  return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void* pointer) { return !pointer || free_global(pointer) ? cudaSuccess : cudaErrorInvalidValue; }
cudaError_t cudaMallocAsync(void** pointer, size_t size, cudaStream_t) { return cudaMalloc(pointer, size); }
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return cudaFree(pointer); }
cudaError_t cudaHostAlloc(void** pointer, size_t size, unsigned) {
  ++counts.allocations;
  *pointer = std::malloc(size);
  return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaMallocHost(void** pointer, size_t size) { return cudaHostAlloc(pointer, size, 0); }
cudaError_t cudaFreeHost(void* pointer) { return std::free(pointer), cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
  ++counts.copies;
  if (size > 0) std::memcpy(to, from, size);
  mark_written(reinterpret_cast<uintptr_t>(to), size);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  ++counts.synchronisations;
  return cudaMemcpyAsync(to, from, size, kind, nullptr);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t) {
  ++counts.copies;
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
  for (size_t row = 0; row < height; ++row) {
    char* out = static_cast<char*>(to) + row * to_pitch;
    std::memcpy(out, static_cast<const char*>(from) + row * from_pitch, width);
    mark_written(reinterpret_cast<uintptr_t>(out), width);
  }
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int byte, size_t size, cudaStream_t) {
  std::memset(to, byte, size);
  mark_written(reinterpret_cast<uintptr_t>(to), size);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int byte, size_t size) { return cudaMemsetAsync(to, byte, size, nullptr); }

// ---- kernels ----
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value < 0 || static_cast<size_t>(value) > kMostSharedBytes) return cudaErrorInvalidValue;
    limits[kernel] = static_cast<size_t>(value);
  }
  return cudaSuccess;
}

// ---- streams and events ----
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = new CUstream_st, cudaSuccess; }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return ++counts.synchronisations, cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = new CUevent_st, cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) { return event->recorded = Clock::now(), cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return ++counts.synchronisations, cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  *milliseconds = std::chrono::duration<float, std::milli>(to->recorded - from->recorded).count();
  return cudaSuccess;
}
}
