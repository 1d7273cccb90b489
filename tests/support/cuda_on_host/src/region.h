// A stretch of memory that kernels may touch, and what the checker remembers of its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cuda_on_host {

// Where and when an access happened, as far as ordering goes.
struct Moment {
  uint32_t block = 0;
  uint16_t thread = 0;
  uint16_t barrier = 0;    // __syncthreads passed
  uint16_t warp_sync = 0;  // __syncwarp passed
};

// One byte's history.
struct Cell {
  uint32_t launch = 0;   // of the moments below
  bool written = false;  // ever
  bool has_write = false, atomic_write = false;
  bool read_before = false, written_before = false;  // in this launch, by anyone
  uint8_t readers = 0;                               // two tell whether any other thread read
  Moment write, read[2];
};

struct Region {
  uintptr_t begin = 0, end = 0;  // what a kernel may touch
  size_t guard = 0;              // bytes on both sides that nobody may touch
  std::string name;
  bool shared = false;
  std::vector<Cell> cells = {};  // one a byte, made at the first access

  size_t size() const { return end - begin; }
  bool holds(uintptr_t address, size_t bytes) const { return address >= begin && address + bytes <= end; }
};

}  // namespace cuda_on_host
