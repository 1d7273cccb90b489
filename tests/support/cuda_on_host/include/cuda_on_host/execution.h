// What a running kernel sees of its grid, and how its threads meet.
//
// Every CUDA thread is a fiber. It runs until it meets the others (a barrier, a warp collective) and
// the schedule picks who goes next, so threads of a warp are not in lockstep here.
#pragma once

#include <vector_types.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace cuda_on_host {

struct Site {
  const char* file;
  int line;
};

enum class Meeting : uint8_t { kShuffle, kBallot, kAdd, kMin, kMax, kMatch, kSyncWarp };

// Returns how many threads of the block passed a true `vote`.
unsigned block_barrier(bool vote, Site site);
// Every lane of `mask` brings a value; a shuffle answers with that of lane `source`, the others with the result.
uint64_t warp_meeting(Meeting kind, unsigned mask, uint64_t value, unsigned source, Site site);
void* dynamic_shared();
[[noreturn]] void trap(Site site);

void copy_async(void* shared, const void* global, size_t size, size_t zfill, Site site);
void commit_copies();
void wait_copies(size_t groups);

// Tells the memory checker that the next lines touch `address` atomically.
void note_atomic(const void* address, size_t size);

}  // namespace cuda_on_host

#define CUDA_ON_HOST_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUDA_ON_HOST_SITE) { cuda_on_host::block_barrier(false, {file, line}); }
inline int __syncthreads_count(int vote, CUDA_ON_HOST_SITE) {
  return static_cast<int>(cuda_on_host::block_barrier(vote != 0, {file, line}));
}
inline int __syncthreads_or(int vote, CUDA_ON_HOST_SITE) {
  return cuda_on_host::block_barrier(vote != 0, {file, line}) != 0;
}
inline int __syncthreads_and(int vote, CUDA_ON_HOST_SITE) {
  return cuda_on_host::block_barrier(vote != 0, {file, line}) == blockDim.x * blockDim.y * blockDim.z;
}

namespace cuda_on_host {

inline unsigned lane_id() { return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32; }

template <class T>
T shuffle(unsigned mask, T value, unsigned source, Site site) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_meeting(Meeting::kShuffle, mask, bits, source, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace cuda_on_host

inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_ON_HOST_SITE) {
  cuda_on_host::warp_meeting(cuda_on_host::Meeting::kSyncWarp, mask, 0, 0, {file, line});
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDA_ON_HOST_SITE) {
  const unsigned lane = cuda_on_host::lane_id(), base = lane & ~unsigned(width - 1);
  return cuda_on_host::shuffle(mask, value, base + (unsigned(source) & unsigned(width - 1)), {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, CUDA_ON_HOST_SITE) {
  const unsigned lane = cuda_on_host::lane_id(), source = lane ^ unsigned(lanes);
  const bool inside = source < (lane & ~unsigned(width - 1)) + unsigned(width);
  return cuda_on_host::shuffle(mask, value, inside ? source : lane, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_ON_HOST_SITE) {
  const unsigned lane = cuda_on_host::lane_id();
  const bool inside = (lane & unsigned(width - 1)) + delta < unsigned(width);
  return cuda_on_host::shuffle(mask, value, inside ? lane + delta : lane, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_ON_HOST_SITE) {
  const unsigned lane = cuda_on_host::lane_id();
  const bool inside = (lane & unsigned(width - 1)) >= delta;
  return cuda_on_host::shuffle(mask, value, inside ? lane - delta : lane, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int vote, CUDA_ON_HOST_SITE) {
  return static_cast<unsigned>(
      cuda_on_host::warp_meeting(cuda_on_host::Meeting::kBallot, mask, vote != 0, 0, {file, line}));
}
inline int __any_sync(unsigned mask, int vote, CUDA_ON_HOST_SITE) { return __ballot_sync(mask, vote, file, line) != 0; }
inline int __all_sync(unsigned mask, int vote, CUDA_ON_HOST_SITE) {
  return __ballot_sync(mask, vote, file, line) == mask;
}
inline unsigned __match_any_sync(unsigned mask, unsigned value, CUDA_ON_HOST_SITE) {
  return static_cast<unsigned>(cuda_on_host::warp_meeting(cuda_on_host::Meeting::kMatch, mask, value, 0, {file, line}));
}
inline int __reduce_add_sync(unsigned mask, int value, CUDA_ON_HOST_SITE) {
  return static_cast<int>(cuda_on_host::warp_meeting(cuda_on_host::Meeting::kAdd, mask,
                                                     static_cast<uint64_t>(int64_t{value}), 0, {file, line}));
}
inline int __reduce_max_sync(unsigned mask, int value, CUDA_ON_HOST_SITE) {
  return static_cast<int>(cuda_on_host::warp_meeting(cuda_on_host::Meeting::kMax, mask,
                                                     static_cast<uint64_t>(int64_t{value}), 0, {file, line}));
}
inline int __reduce_min_sync(unsigned mask, int value, CUDA_ON_HOST_SITE) {
  return static_cast<int>(cuda_on_host::warp_meeting(cuda_on_host::Meeting::kMin, mask,
                                                     static_cast<uint64_t>(int64_t{value}), 0, {file, line}));
}
