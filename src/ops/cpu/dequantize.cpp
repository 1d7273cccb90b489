// NF4 to the compute dtype: ranges of whole blocks, each by one thread, with the vector code of the quant layer.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"

namespace phi3tune::ops::cpu {

void dequantize(const at::Tensor& out, const quant::Nf4Tensor& weight, const at::Tensor& /*block*/) {
  const int64_t block = weight.block_size;
  const int64_t numel = weight.numel();
  at::parallel_for(0, weight.blocks(), std::max<int64_t>(1, 65536 / block), [&](int64_t begin, int64_t end) {
    const int64_t first = begin * block;
    const int64_t last = std::min(end * block, numel);
    if (out.scalar_type() == at::kDouble) {
      quant::dequantize_nf4_f64(weight, first, last, data<double>(out) + first);
    } else if (out.scalar_type() == at::kBFloat16) {
      quant::dequantize_nf4(weight, first, last, quant::FloatType::kBF16, data<uint16_t>(out) + first);
    } else {
      quant::dequantize_nf4(weight, first, last, quant::FloatType::kF32, data<float>(out) + first);
    }
  });
}

}  // namespace phi3tune::ops::cpu
