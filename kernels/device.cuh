// What kernels share: 16 bytes at a time, sums over a block, dynamic shared memory, the launch.
//
// Everything is `static`: run on the host, shared memory is found only in functions of one file.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace phi3tune::kernels {

constexpr unsigned kFullWarp = 0xffffffffu;

// ---- one element ----

static __device__ __forceinline__ float to_float(float value) { return value; }
static __device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

// from_float<T>(value): rounded to nearest, ties to even.
template <class T>
static __device__ __forceinline__ T from_float(float value) {
  if constexpr (sizeof(T) == 2) {
    return __float2bfloat16_rn(value);
  } else {
    return value;
  }
}

// The value that memory of type T would keep.
template <class T>
static __device__ __forceinline__ float rounded(float value) {
  return to_float(from_float<T>(value));
}

// ---- 16 bytes: eight bf16 or four floats ----

template <class T>
constexpr int kVectorWidth = 16 / static_cast<int>(sizeof(T));

// May 16-byte accesses be used at this address, for rows that are this many elements apart?
template <class T>
static inline bool allows_vectors(const T* pointer, int64_t width_or_distance) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && width_or_distance % kVectorWidth<T> == 0;
}

static __device__ __forceinline__ void unpack(float (&values)[8], const uint4& packed) {
  const unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {  // bf16 is the upper half of a float
    values[2 * i] = __uint_as_float(words[i] << 16);
    values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}
static __device__ __forceinline__ void unpack(float (&values)[4], const uint4& packed) {
  values[0] = __uint_as_float(packed.x);
  values[1] = __uint_as_float(packed.y);
  values[2] = __uint_as_float(packed.z);
  values[3] = __uint_as_float(packed.w);
}

static __device__ __forceinline__ unsigned pack_two(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return static_cast<unsigned>(__bfloat16_as_ushort(pair.x)) | static_cast<unsigned>(__bfloat16_as_ushort(pair.y))
                                                                   << 16;
}
static __device__ __forceinline__ uint4 pack(const float (&values)[8]) {
  return make_uint4(pack_two(values[0], values[1]), pack_two(values[2], values[3]), pack_two(values[4], values[5]),
                    pack_two(values[6], values[7]));
}
static __device__ __forceinline__ uint4 pack(const float (&values)[4]) {
  return make_uint4(__float_as_uint(values[0]), __float_as_uint(values[1]), __float_as_uint(values[2]),
                    __float_as_uint(values[3]));
}

// load and store: kWidth elements of T as floats. kWidth is 1 or kVectorWidth<T>; a vector's address is a multiple
// of 16.
template <int kWidth, class T>
static __device__ __forceinline__ void load(float (&values)[kWidth], const T* from) {
  static_assert(kWidth == 1 || kWidth == kVectorWidth<T>);
  if constexpr (kWidth == 1) {
    values[0] = to_float(*from);
  } else {
    unpack(values, *reinterpret_cast<const uint4*>(from));
  }
}
template <int kWidth, class T>
static __device__ __forceinline__ void store(T* to, const float (&values)[kWidth]) {
  static_assert(kWidth == 1 || kWidth == kVectorWidth<T>);
  if constexpr (kWidth == 1) {
    *to = from_float<T>(values[0]);
  } else {
    *reinterpret_cast<uint4*>(to) = pack(values);
  }
}

// The same for global memory alone, and surely by one access. (Outside loops nvcc takes plain ones apart and, up to
// sm_90, leaves them so: look for STG.64 and less in the report.) Not to read what the same thread has written.
template <int kWidth, class T>
static __device__ __forceinline__ void load_global(float (&values)[kWidth], const T* from) {
  if constexpr (kWidth == 1) {
    load(values, from);
  } else {
    static_assert(kWidth == kVectorWidth<T>);
    unpack(values, __ldca(reinterpret_cast<const uint4*>(from)));
  }
}
template <int kWidth, class T>
static __device__ __forceinline__ void store_global(T* to, const float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    store(to, values);
  } else {
    static_assert(kWidth == kVectorWidth<T>);
    __stcg(reinterpret_cast<uint4*>(to), pack(values));
  }
}

// ---- a block ----

// Run-time shared memory; its size is given to launch().
template <class T>
static __device__ __forceinline__ T* dynamic_shared() {
#if defined(CUDA_ON_HOST)
  return static_cast<T*>(cuda_on_host::dynamic_shared());
#else
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[];
  return reinterpret_cast<T*>(dynamic_shared_bytes);
#endif
}

template <class T>
static __device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kFullWarp, value, lanes);
  return value;
}

// Sum over the block (T float or double), known to every thread, in an order that never changes. All threads call it.
template <int kThreads, class T>
static __device__ __forceinline__ T block_sum(T value) {
  static_assert(kThreads % 32 == 0);
  __shared__ T partial[kThreads / 32];
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  T sum = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / 32; ++warp) sum += partial[warp];
  __syncthreads();  // before the next call writes
  return sum;
}

// ---- the launch ----

template <class... Parameters, class... Arguments>
[[nodiscard]] static cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes,
                                        cudaStream_t stream, Arguments... arguments) {
  if (shared_bytes > 48 * 1024) {
    const cudaError_t status =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (status != cudaSuccess) return status;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

// Blocks for a grid-stride loop over `tiles`: enough to fill the device, never more than there is work.
[[nodiscard]] static inline cudaError_t grid_for(unsigned& blocks, int64_t tiles, int blocks_per_sm) {
  int device = 0, sms = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
  const int64_t wanted = int64_t{sms} * blocks_per_sm;
  blocks = static_cast<unsigned>(tiles < wanted ? tiles : wanted);
  return status;
}

}  // namespace phi3tune::kernels
