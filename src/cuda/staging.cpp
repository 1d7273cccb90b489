#include "cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "cuda/calls.h"
#include "phi3tune/cuda/counters.h"

namespace phi3tune::cuda {
StagingRing::StagingRing(size_t bytes) : bytes_(bytes), ring_(bytes) {
  void* memory = nullptr;
  ++counters().allocations;
  succeeded("staging memory", cudaHostAlloc(&memory, bytes, cudaHostAllocDefault));
  memory_ = static_cast<std::byte*>(memory);
}

StagingRing::~StagingRing() {
  // A fault here has been reported by the op that met it.
  for (const cudaEvent_t copied : copied_) {
    static_cast<void>(cudaEventSynchronize(copied));
    static_cast<void>(cudaEventDestroy(copied));
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
    in_use(stream);
  }
}

void StagingRing::copy_rows(void* to, size_t pitch, const void* from, size_t width, size_t rows, cudaStream_t stream) {
  const size_t most = std::max<size_t>(1, bytes_ / 4 / width);
  for (size_t done = 0; done < rows; done += most) {
    const size_t count = std::min(most, rows - done);
    const size_t begin = take(count * width);
    std::memcpy(memory_ + begin, static_cast<const std::byte*>(from) + done * width, count * width);
    succeeded("upload", cudaMemcpy2DAsync(static_cast<std::byte*>(to) + done * pitch, pitch, memory_ + begin, width,
                                          width, count, cudaMemcpyHostToDevice, stream));
    in_use(stream);
  }
}

void StagingRing::in_use(cudaStream_t stream) {
  ++counters().copies;
  const cudaEvent_t copied = event();
  succeeded("upload", cudaEventRecord(copied, stream));
  copied_.push_back(copied);
}

size_t StagingRing::take(size_t bytes) {
  give_back(false);
  for (;;) {
    if (const auto begin = ring_.take(bytes)) {
      return *begin;
    }
    ++counters().ring_waits;
    give_back(true);
  }
}

void StagingRing::give_back(bool wait) {
  while (!ring_.empty()) {
    const cudaEvent_t oldest = copied_.front();
    const cudaError_t status = wait ? cudaEventSynchronize(oldest) : cudaEventQuery(oldest);
    if (status == cudaErrorNotReady) {
      return;
    }
    succeeded("upload", status);
    spare_.push_back(oldest);
    copied_.pop_front();
    ring_.give_back_oldest();
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
