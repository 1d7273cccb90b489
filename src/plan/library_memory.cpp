#include "phi3tune/plan/library_memory.h"

#include <algorithm>

namespace phi3tune::plan {
namespace {

constexpr size_t kMiB = 1024 * 1024;
constexpr size_t kAllocation = 512;  // PyTorch's allocator rounds up to that
constexpr int64_t kRowBlock = 128;   // queries of one block

size_t allocated(int64_t elements, size_t size) {
  const size_t bytes = static_cast<size_t>(elements) * size;
  return (bytes + kAllocation - 1) / kAllocation * kAllocation;
}

int64_t rounded(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

size_t forward_bytes(const phi3::ModelConfig& config, const StepShape& step) {
  return allocated(step.tokens * config.q_size(), step.element_size) +
         allocated(config.num_heads * step.tokens, sizeof(float));
}

size_t backward_bytes(const phi3::ModelConfig& config, const StepShape& step, int64_t multiprocessors) {
  const int64_t documents = std::max<int64_t>(1, step.documents);
  const int64_t blocks = documents * config.num_heads;
  const int64_t splits = (multiprocessors + blocks - 1) / blocks;
  const int64_t rows = step.tokens + kRowBlock * documents;
  const int64_t head = rounded(config.head_dim, config.head_dim <= 128 ? 32 : 64);
  size_t bytes = allocated(step.tokens * config.q_size(), step.element_size) +
                 2 * allocated(step.tokens * config.kv_size(), step.element_size);
  if (config.num_kv_heads != config.num_heads) {
    bytes += 2 * allocated(step.tokens * config.q_size(), step.element_size);
  }
  bytes += allocated(config.num_heads * rows, sizeof(float));
  bytes += allocated(splits * rows * config.num_heads * head, sizeof(float));
  return bytes;
}

}  // namespace

LibraryMemory library_memory(const phi3::ModelConfig& config, const RunShape& shape, int64_t multiprocessors) {
  LibraryMemory memory;
  multiprocessors = multiprocessors > 0 ? multiprocessors : kMostMultiprocessors;
  memory.attention = std::max({forward_bytes(config, shape.step), backward_bytes(config, shape.step, multiprocessors),
                               forward_bytes(config, shape.evaluation)});
  memory.workspace = 64 * kMiB;
  memory.context = 448 * kMiB;
  return memory;
}

}  // namespace phi3tune::plan
