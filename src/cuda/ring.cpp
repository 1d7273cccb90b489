#include "cuda/ring.h"

namespace phi3tune::cuda {

std::optional<size_t> Ring::take(size_t bytes) {
  const size_t wanted = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  size_t begin = 0;
  if (!in_use_.empty()) {
    const size_t oldest = in_use_.front();
    // In use is [oldest, head), round the end of the memory when head <= oldest; equal: all of it.
    const bool round = head_ <= oldest;
    if (head_ + wanted <= (round ? oldest : bytes_)) {
      begin = head_;
    } else if (round || wanted > oldest) {
      return std::nullopt;
    }
  }
  head_ = begin + wanted;
  in_use_.push_back(begin);
  return begin;
}

}  // namespace phi3tune::cuda
