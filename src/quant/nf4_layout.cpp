#include "phi3tune/quant/nf4_layout.h"

#include "phi3tune/quant/nf4.h"

namespace phi3tune::quant {
namespace {

constexpr size_t kAlignment = 256;

size_t take(size_t& bytes, int64_t count, size_t size) {
  const size_t begin = bytes;
  bytes += (static_cast<size_t>(count) * size + kAlignment - 1) / kAlignment * kAlignment;
  return begin;
}

}  // namespace

Nf4Layout nf4_layout(int64_t rows, int64_t cols, int64_t block_size, bool double_quant) noexcept {
  const int64_t size = rows * cols;
  const int64_t blocks = (size + block_size - 1) / block_size;
  Nf4Layout layout;
  size_t bytes = 0;
  layout.codes = take(bytes, (size + 1) / 2, 1);
  if (double_quant) {
    layout.nested_codes = take(bytes, blocks, 1);
    layout.nested_absmax = take(bytes, (blocks + kNestedBlock - 1) / kNestedBlock, sizeof(float));
    layout.nested_map = take(bytes, 256, sizeof(float));
    layout.offset = take(bytes, 1, sizeof(float));
  } else {
    layout.absmax = take(bytes, blocks, sizeof(float));
  }
  layout.code_values = take(bytes, 16, sizeof(float));
  layout.bytes = bytes;
  return layout;
}

}  // namespace phi3tune::quant
