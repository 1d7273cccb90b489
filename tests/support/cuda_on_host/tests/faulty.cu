#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

#include "faulty.h"

namespace {

__global__ void indices(int* out) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned lane = thread % 32;
  const unsigned odd = __ballot_sync(0xffffffffu, lane % 2);
  const int sum = __reduce_add_sync(0xffffffffu, static_cast<int>(lane));
  const int highest = __reduce_max_sync(0xffffffffu, -static_cast<int>(lane));
  const unsigned down = __shfl_down_sync(0xffffffffu, lane, 4, 8);
  const double first = __shfl_sync(0xffffffffu, lane * 0.5, 9);
  const int count = __syncthreads_count(thread < 5);
  if (!(odd == 0xaaaaaaaau && sum == 496 && highest == 0 && count == 5 && first == 4.5)) __trap();
  if (down != (lane % 8 < 4 ? lane + 4 : lane)) __trap();
  atomicAdd(&out[thread], 1);
}

__global__ void faulty(Fault fault, int* out) {
  __shared__ int words[64];
  __shared__ __align__(16) int staged[64];
  const int t = static_cast<int>(threadIdx.x);
  switch (fault) {
    case Fault::kExitBeforeBarrier:
      if (t == 7) return;
      __syncthreads();
      break;
    case Fault::kDivergentBarrier:
      if (t < 32)
        __syncthreads();
      else
        __syncthreads();
      break;
    case Fault::kMaskWithoutCaller:
      out[t] = __shfl_xor_sync(0x0000ffffu, t, 1);
      break;
    case Fault::kLaneNeverComes:
      if (t != 3) __syncwarp();
      break;
    case Fault::kCopyNeverAwaited:
      __pipeline_memcpy_async(staged + t, out + t, 4);
      __pipeline_commit();
      break;
    case Fault::kMissingBarrier:
      words[t] = t;
      out[t] = words[63 - t];
      break;
    case Fault::kMissingSyncwarp:
      words[t] = t;
      out[t] = __shfl_sync(0xffffffffu, words[t ^ 1], 0);  // a shuffle orders no memory
      break;
    case Fault::kBlocksWriteTheSame:
      out[t] = t;
      break;
    case Fault::kUnwrittenShared:
      if (t < 63) words[t] = t;
      __syncthreads();
      out[64 + t] = words[t];
      break;
    case Fault::kReadBehind:
      if (t == 0) out[1] = out[256];
      break;
    case Fault::kWriteBehind:
      if (t == 0) out[256] = 1;
      break;
    case Fault::kTrap:
      if (t == 9) __trap();
      break;
    default:
      break;
  }
}

}  // namespace

cudaError_t run_faulty(Fault fault, int* out) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(fault == Fault::kBlocksWriteTheSame ? 2 : 1);
  config.blockDim = dim3(64);
  if (fault != Fault::kNone) return cudaLaunchKernelEx(&config, faulty, fault, out);
  config.gridDim = dim3(2, 3, 2);
  config.blockDim = dim3(4, 8, 8);
  return cudaLaunchKernelEx(&config, indices, out);
}
