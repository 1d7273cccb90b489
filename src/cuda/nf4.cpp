// NF4 weights in the device's memory, laid out by quant::nf4_layout.
#include <ATen/ATen.h>

#include <limits>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"
#include "cuda/streams.h"
#include "phi3tune/core/error.h"
#include "phi3tune/quant/nf4_layout.h"

namespace phi3tune::cuda {
namespace {

kernels::Source source_of(quant::FloatType type) {
  switch (type) {
    case quant::FloatType::kF32:
      return kernels::Source::kFloat32;
    case quant::FloatType::kF16:
      return kernels::Source::kFloat16;
    default:
      return kernels::Source::kBfloat16;
  }
}

quant::Nf4Layout layout_of(const Tensor& block, const quant::Nf4Tensor& weight) {
  const auto layout = quant::nf4_layout(weight.rows, weight.cols, weight.block_size, weight.double_quant);
  require(block.defined() && block.nbytes() >= layout.bytes, "a quantised weight is not whole in the GPU's memory");
  return layout;
}

template <typename T>
T* at_offset(const Tensor& block, size_t offset) {
  return reinterpret_cast<T*>(data<std::byte>(block) + offset);
}

Tensor bytes_at(const Tensor& block, size_t offset, size_t bytes) {
  return block.flatten().view(at::kByte).narrow(0, static_cast<int64_t>(offset), static_cast<int64_t>(bytes));
}

}  // namespace

void dequantize(const Tensor& out, const quant::Nf4Tensor& weight, const Tensor& block) {
  const auto layout = layout_of(block, weight);
  kernels::Nf4View view{};
  view.codes = at_offset<uint8_t>(block, layout.codes);
  view.code_values = at_offset<float>(block, layout.code_values);
  view.block_size = static_cast<int>(weight.block_size);
  if (weight.double_quant) {
    view.nested_codes = at_offset<uint8_t>(block, layout.nested_codes);
    view.nested_absmax = at_offset<float>(block, layout.nested_absmax);
    view.nested_map = at_offset<float>(block, layout.nested_map);
    view.offset = at_offset<float>(block, layout.offset);
  } else {
    view.absmax = at_offset<float>(block, layout.absmax);
  }
  view.rows = weight.rows;
  view.cols = weight.cols;
  view.source = source_of(weight.source);
  with_dtype("dequantize", out.scalar_type(), [&]<typename T>(T) {
    launched("dequantize", kernels::nf4_dequantize<T>(data<T>(out), ld(out), view, stream()), {&out});
  });
}

int64_t quantize(const Tensor& block, const Tensor& absmax, const Tensor& weights, const quant::Nf4Tensor& weight) {
  const auto layout = layout_of(block, weight);
  const auto& map = quant::signed_dynamic_map();
  upload(bytes_at(block, layout.code_values, sizeof(quant::kNf4Code)), quant::kNf4Code.data());
  if (weight.double_quant) {
    upload(bytes_at(block, layout.nested_map, sizeof(map)), map.data());
  }
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  const Tensor& first = device_word();
  upload(first, &kNone);
  kernels::Nf4Target target{};
  target.codes = at_offset<uint8_t>(block, layout.codes);
  target.block_size = static_cast<int>(weight.block_size);
  target.first_not_finite = data<long long>(first);
  if (weight.double_quant) {
    target.absmax = data<float>(absmax);
    target.nested_codes = at_offset<uint8_t>(block, layout.nested_codes);
    target.nested_absmax = at_offset<float>(block, layout.nested_absmax);
    target.offset = at_offset<float>(block, layout.offset);
    target.nested_map = at_offset<float>(block, layout.nested_map);
  } else {
    target.absmax = at_offset<float>(block, layout.absmax);
  }
  launched("quantize",
           kernels::nf4_quantize(target, weights.data_ptr(), source_of(weight.source), weight.numel(), stream()),
           {&weights});
  int64_t found = kNone;
  download(&found, first);
  return found == kNone ? -1 : found;
}

}  // namespace phi3tune::cuda
