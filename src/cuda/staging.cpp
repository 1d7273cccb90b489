#include "cuda/staging.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda/calls.h"
#include "phi3tune/cuda/counters.h"

namespace phi3tune::cuda {
namespace {

constexpr size_t kAlignment = 64;

}  // namespace

StagingRing::StagingRing(size_t bytes) : bytes_(bytes) {
  void* memory = nullptr;
  ++counters().allocations;
  succeeded("staging memory", cudaHostAlloc(&memory, bytes, cudaHostAllocDefault));
  memory_ = static_cast<std::byte*>(memory);
}

StagingRing::~StagingRing() {
  // A fault here has been reported by the op that met it.
  for (const Range& range : in_use_) {
    static_cast<void>(cudaEventSynchronize(range.copied));
    static_cast<void>(cudaEventDestroy(range.copied));
  }
  for (const cudaEvent_t spare : spare_) {
    static_cast<void>(cudaEventDestroy(spare));
  }
  static_cast<void>(cudaFreeHost(memory_));
}

void StagingRing::copy(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  // A quarter at a time: the host fills one part while the device reads another.
  const size_t part = bytes_ / 4;
  for (size_t done = 0; done < bytes; done += part) {
    const size_t size = std::min(part, bytes - done);
    const size_t begin = take(size);
    std::memcpy(memory_ + begin, static_cast<const std::byte*>(from) + done, size);
    succeeded("upload", cudaMemcpyAsync(static_cast<std::byte*>(to) + done, memory_ + begin, size,
                                        cudaMemcpyHostToDevice, stream));
    ++counters().copies;
    const cudaEvent_t copied = event();
    succeeded("upload", cudaEventRecord(copied, stream));
    in_use_.push_back({begin, head_, copied});
  }
}

size_t StagingRing::take(size_t bytes) {
  const size_t wanted = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  release(false);
  for (;;) {
    if (in_use_.empty()) {
      head_ = wanted;
      return 0;
    }
    const size_t oldest = in_use_.front().begin;
    // Free is [head, oldest), round the end of the memory. head == oldest: full.
    if (head_ > oldest) {
      if (head_ + wanted <= bytes_) {
        return std::exchange(head_, head_ + wanted);
      }
      if (wanted < oldest) {
        head_ = wanted;
        return 0;
      }
    } else if (head_ + wanted < oldest) {
      return std::exchange(head_, head_ + wanted);
    }
    ++counters().ring_waits;
    release(true);
  }
}

void StagingRing::release(bool wait) {
  while (!in_use_.empty()) {
    const Range& oldest = in_use_.front();
    const cudaError_t status = wait ? cudaEventSynchronize(oldest.copied) : cudaEventQuery(oldest.copied);
    if (status == cudaErrorNotReady) {
      return;
    }
    succeeded("upload", status);
    spare_.push_back(oldest.copied);
    in_use_.pop_front();
    wait = false;
  }
}

cudaEvent_t StagingRing::event() {
  if (!spare_.empty()) {
    const cudaEvent_t spare = spare_.back();
    spare_.pop_back();
    return spare;
  }
  cudaEvent_t fresh = nullptr;
  succeeded("upload", cudaEventCreateWithFlags(&fresh, cudaEventDisableTiming));
  return fresh;
}

}  // namespace phi3tune::cuda
