// Ranges of a ring of bytes: taken in order, given back in the same order.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>

namespace phi3tune::cuda {

class Ring {
 public:
  explicit Ring(size_t bytes) : bytes_(bytes) {}

  // Where `bytes` in a row, at most a half of the ring, may be used; none while too much is in use.
  std::optional<size_t> take(size_t bytes);
  void give_back_oldest() { in_use_.pop_front(); }
  bool empty() const noexcept { return in_use_.empty(); }

 private:
  static constexpr size_t kAlignment = 64;

  size_t bytes_;
  size_t head_ = 0;            // the end of the latest range
  std::deque<size_t> in_use_;  // where ranges begin, the oldest first
};

}  // namespace phi3tune::cuda
