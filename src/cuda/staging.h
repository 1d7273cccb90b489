// Pinned memory that the host's bytes pass through on their way to the device, so that a copy returns at once and the
// caller's bytes are free. A ring: a range is used again once the copy out of it has been done.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <deque>
#include <vector>

namespace phi3tune::cuda {

class StagingRing {
 public:
  explicit StagingRing(size_t bytes);
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;
  ~StagingRing();

  // Copies `bytes` to the device in order on `stream`; waits only while the ring is full.
  void copy(void* to, const void* from, size_t bytes, cudaStream_t stream);

 private:
  struct Range {
    size_t begin, end;
    cudaEvent_t copied;
  };
  size_t take(size_t bytes);  // offset of a free range
  void release(bool wait);    // the oldest ranges whose copy is done; waits for the first
  cudaEvent_t event();

  size_t bytes_;
  std::byte* memory_ = nullptr;
  size_t head_ = 0;           // where the next range may begin
  std::deque<Range> in_use_;  // oldest first
  std::vector<cudaEvent_t> spare_;
};

}  // namespace phi3tune::cuda
