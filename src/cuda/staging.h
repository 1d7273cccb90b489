// Pinned memory that the host's bytes pass through on their way to the device, so that a copy returns at once and the
// caller's bytes are free.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <deque>
#include <vector>

#include "cuda/ring.h"

namespace phi3tune::cuda {

class StagingRing {
 public:
  explicit StagingRing(size_t bytes);
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;
  ~StagingRing();

  // Copies `bytes` to the device in order on `stream`; waits only while the ring is full.
  void copy(void* to, const void* from, size_t bytes, cudaStream_t stream);
  // Rows of `width` bytes that lie one after the other, to places `pitch` bytes apart.
  void copy_rows(void* to, size_t pitch, const void* from, size_t width, size_t rows, cudaStream_t stream);

 private:
  size_t take(size_t bytes);  // offset of a free range
  // Gives back the ranges whose copy is done, the oldest first; waits for one if `wait`.
  void give_back(bool wait);
  // The copy that was just enqueued reads the newest range.
  void in_use(cudaStream_t stream);
  cudaEvent_t event();

  size_t bytes_;
  std::byte* memory_ = nullptr;
  Ring ring_;
  std::deque<cudaEvent_t> copied_;  // one for each range in use
  std::vector<cudaEvent_t> spare_;
};

}  // namespace phi3tune::cuda
