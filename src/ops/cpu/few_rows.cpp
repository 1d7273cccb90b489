// Products of a few rows: generation's, where reading the weight is what takes the time. Threads share out the outputs.
#include "ops/cpu/few_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"

namespace phi3tune::ops::cpu {
namespace {

using quant::FloatType;

Nf4Blocks blocks_of(const quant::Nf4Tensor& weight) {
  return {.packed = weight.packed.data(),
          .code = weight.code.data(),
          .absmax = weight.double_quant ? nullptr : weight.absmax.data(),
          .nested_codes = weight.nested_codes.data(),
          .nested_absmax = weight.nested_absmax.data(),
          .nested_map = weight.nested_map.data(),
          .offset = weight.offset,
          .block_size = weight.block_size,
          .source = weight.source == FloatType::kF32    ? Nf4Source::kFloat
                    : weight.source == FloatType::kBF16 ? Nf4Source::kBf16
                                                        : Nf4Source::kHalf};
}

template <typename T>
void dequantize_to(T* out, const quant::Nf4Tensor& weight, int64_t begin, int64_t end) {
  if constexpr (sizeof(T) == sizeof(double)) {
    quant::dequantize_nf4_f64(weight, begin, end, out);
  } else {
    quant::dequantize_nf4(weight, begin, end, sizeof(T) == sizeof(float) ? FloatType::kF32 : FloatType::kBF16, out);
  }
}

// Outputs [begin, end), a row of the weight at a time: its blocks may begin in the row before and end in the next.
template <typename T, typename W>
void by_dequantized_rows(const Kernels<T, W>& kernels, const at::Tensor& y, const at::Tensor& x,
                         const quant::Nf4Tensor& weight, int64_t begin, int64_t end) {
  const int64_t size = weight.block_size;
  const std::unique_ptr<T[]> values(new T[static_cast<size_t>(weight.cols + 2 * size)]);
  for (int64_t o = begin; o < end; ++o) {
    const int64_t first = o * weight.cols / size * size;
    const int64_t last = std::min(((o + 1) * weight.cols + size - 1) / size * size, weight.numel());
    dequantize_to(values.get(), weight, first, last);
    kernels.few_rows(data<T>(y) + o, data<T>(x), values.get() + (o * weight.cols - first), x.size(0), weight.cols, 1,
                     y.size(1));
  }
}

}  // namespace

bool has_few_rows(const at::Tensor& x) { return x.size(0) <= (x.scalar_type() == at::kBFloat16 ? 8 : kFewRows); }

void few_rows_linear(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight) {
  const int64_t inputs = weight.size(1);
  with_kernels(x.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, weight.size(0), row_grain(inputs), [&](int64_t begin, int64_t end) {
      k.few_rows(data<T>(y) + begin, data<T>(x), data<T>(weight) + begin * inputs, x.size(0), inputs, end - begin,
                 y.size(1));
    });
  });
}

void quantized_linear(const at::Tensor& y, const at::Tensor& x, const quant::Nf4Tensor& weight) {
  if (x.size(0) == 0) {
    return;
  }
  const int64_t inputs = weight.cols;
  const bool whole_blocks = weight.block_size % 64 == 0 && inputs % weight.block_size == 0;
  with_kernels(x.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    // The same way for one row and for many: a result does not depend on the rows beside it.
    if (k.nf4_rows.operand_bytes == nullptr || !whole_blocks) {
      at::parallel_for(0, weight.rows, row_grain(inputs),
                       [&](int64_t begin, int64_t end) { by_dequantized_rows(k, y, x, weight, begin, end); });
      return;
    }
    const at::Tensor operand = at::empty({k.nf4_rows.operand_bytes(x.size(0), inputs)}, at::kByte);  // aligned to 64
    k.nf4_rows.prepare(operand.data_ptr(), data<T>(x), x.size(0), inputs);
    const Nf4Blocks blocks = blocks_of(weight);
    at::parallel_for(0, weight.rows, row_grain(inputs), [&](int64_t begin, int64_t end) {
      k.nf4_rows.product(data<T>(y), operand.data_ptr(), blocks, x.size(0), inputs, begin, end, y.size(1));
    });
  });
}

}  // namespace phi3tune::ops::cpu
