// A walk over memory that is not there yet: what is taken gets the next aligned place.
#pragma once

#include <cstddef>
#include <cstdint>

namespace phi3tune::plan {

class Walk {
 public:
  // Enough for every vector load, of the CPU's and of a GPU's.
  static constexpr size_t kAlignment = 256;
  static constexpr size_t aligned(size_t bytes) noexcept { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  // The offset of `count` elements of `size` bytes.
  size_t take(int64_t count, size_t size) noexcept {
    const size_t begin = bytes_;
    bytes_ += aligned(static_cast<size_t>(count) * size);
    return begin;
  }
  size_t bytes() const noexcept { return bytes_; }

 private:
  size_t bytes_ = 0;
};

}  // namespace phi3tune::plan
