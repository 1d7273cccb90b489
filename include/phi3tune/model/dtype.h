// The dtype of a weight in a file, as ATen and as the NF4 code name it.
#pragma once

#include <ATen/core/Tensor.h>

#include "phi3tune/core/error.h"
#include "phi3tune/io/safetensors.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::model {

// F32, BF16 or F16. Throws InternalError for others: they are refused where a file is opened.
inline at::ScalarType scalar_type(io::DType dtype) {
  switch (dtype) {
    case io::DType::kF32:
      return at::kFloat;
    case io::DType::kBF16:
      return at::kBFloat16;
    case io::DType::kF16:
      return at::kHalf;
    default:
      throw InternalError("internal error: a weight of dtype {}", io::dtype_name(dtype));
  }
}

inline quant::FloatType float_type(io::DType dtype) {
  return dtype == io::DType::kF32   ? quant::FloatType::kF32
         : dtype == io::DType::kF16 ? quant::FloatType::kF16
                                    : quant::FloatType::kBF16;
}

}  // namespace phi3tune::model
