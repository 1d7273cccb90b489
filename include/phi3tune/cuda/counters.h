// How often this back end did what costs time: tests prove by it that a step neither waits nor allocates.
#pragma once

#include <cstdint>

namespace phi3tune::cuda {

struct Counters {
  uint64_t launches = 0;  // of our kernels
  uint64_t gemms = 0;
  uint64_t attentions = 0;           // forward and backward calls
  uint64_t synchronisations = 0;     // the host waited for the device's work
  uint64_t allocations = 0;          // of device or pinned memory, by us
  uint64_t library_allocations = 0;  // of device memory, by libtorch's allocator: brought up to date when asked for
  uint64_t copies = 0;               // between host and device
  uint64_t ring_waits = 0;           // an upload found the staging ring full
};
// To the back end's own code.
Counters& counters() noexcept;

}  // namespace phi3tune::cuda
