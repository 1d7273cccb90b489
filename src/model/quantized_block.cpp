#include "quantized_block.h"

#include <ATen/ATen.h>

#include "phi3tune/core/error.h"
#include "phi3tune/ops/backend.h"

namespace phi3tune::model {

void upload_quantized(const at::Tensor& block, const quant::Nf4Tensor& weight) {
  const auto layout = quant::nf4_layout(weight.rows, weight.cols, weight.block_size, weight.double_quant);
  require(static_cast<size_t>(block.numel()) == layout.bytes, "the block of an NF4 weight has its layout's size");
  const auto put = [&](size_t offset, const auto& values) {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(values[0]));
    ops::backend().memory.upload(block.narrow(0, static_cast<int64_t>(offset), bytes), values.data());
  };
  put(layout.codes, weight.packed);
  put(layout.code_values, weight.code);
  if (weight.double_quant) {
    put(layout.nested_codes, weight.nested_codes);
    put(layout.nested_absmax, weight.nested_absmax);
    put(layout.nested_map, weight.nested_map);
    put(layout.offset, std::array<float, 1>{weight.offset});
  } else {
    put(layout.absmax, weight.absmax);
  }
}

void forget_bytes(quant::Nf4Tensor& weight) {
  weight.packed = {};
  weight.nested_codes = {};
  weight.nested_absmax = {};
  weight.absmax = {};
}

}  // namespace phi3tune::model
