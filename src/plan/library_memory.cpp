#include "phi3tune/plan/library_memory.h"

#include <algorithm>

namespace phi3tune::plan {
namespace {

constexpr size_t kMiB = 1024 * 1024;
constexpr int64_t kRowBlock = 128;  // queries of one block of FlashAttention

size_t rounded(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// What PyTorch's allocator takes from the device for tensors that live together: those up to 1 MiB share pieces of 2
// MiB, those below 10 MiB pieces of 20, larger ones have their own (pytorch, c10/cuda/CUDACachingAllocator).
class Reserved {
 public:
  void add(int64_t elements, size_t size) {
    const size_t bytes = rounded(static_cast<size_t>(elements) * size, 512);
    if (bytes <= kMiB) {
      small_ += bytes;
    } else if (bytes < 10 * kMiB) {
      medium_ += bytes;
    } else {
      large_ += rounded(bytes, 2 * kMiB);
    }
  }
  size_t bytes() const { return rounded(small_, 2 * kMiB) + rounded(medium_, 20 * kMiB) + large_; }

 private:
  size_t small_ = 0, medium_ = 0, large_ = 0;
};

size_t forward_bytes(const phi3::ModelConfig& config, const StepShape& step) {
  Reserved memory;
  memory.add(step.tokens * config.q_size(), step.element_size);
  memory.add(config.num_heads * step.tokens, sizeof(float));
  return memory.bytes();
}

size_t backward_bytes(const phi3::ModelConfig& config, const StepShape& step, int64_t multiprocessors) {
  const int64_t documents = std::max<int64_t>(1, step.documents);
  const int64_t blocks = documents * config.num_heads;
  const int64_t splits = (multiprocessors + blocks - 1) / blocks;
  const int64_t rows = step.tokens + kRowBlock * documents;
  const int64_t head_multiple = config.head_dim <= 128 ? 32 : 64;
  const int64_t head = (config.head_dim + head_multiple - 1) / head_multiple * head_multiple;
  Reserved memory;
  if (extension(step, phi3::LinearKind::kO) > 0) {
    memory.add(step.tokens * config.q_size(), step.element_size);  // the output without the room behind its rows
  }
  memory.add(step.tokens * config.q_size(), step.element_size);
  memory.add(step.tokens * config.kv_size(), step.element_size);
  memory.add(step.tokens * config.kv_size(), step.element_size);
  if (config.num_kv_heads != config.num_heads) {
    memory.add(step.tokens * config.q_size(), step.element_size);
    memory.add(step.tokens * config.q_size(), step.element_size);
  }
  memory.add(config.num_heads * rows, sizeof(float));
  memory.add(splits * rows * config.num_heads * head, sizeof(float));
  return memory.bytes();
}

}  // namespace

LibraryMemory library_memory(const phi3::ModelConfig& config, const RunShape& shape, int64_t multiprocessors) {
  multiprocessors = multiprocessors > 0 ? multiprocessors : kMostMultiprocessors;
  LibraryMemory memory;
  memory.attention = std::max({forward_bytes(config, shape.step), backward_bytes(config, shape.step, multiprocessors),
                               forward_bytes(config, shape.evaluation)});
  memory.workspace = 64 * kMiB;
  memory.context = 448 * kMiB;
  return memory;
}

}  // namespace phi3tune::plan
