// What one forward pass reads: documents, flat, and which rows are trained.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace phi3tune::model {

struct TokenBatch {
  at::Tensor input_ids;              // int64 [M]
  std::vector<int32_t> cu_seqlens;   // [documents + 1], from 0 to M
  at::Tensor target_rows;            // int64 [R], ascending: rows whose logits predict a target
  at::Tensor targets;                // int64 [R]
  at::Tensor weights;                // [R], the wide dtype of the model (float32 or float64)
  std::vector<uint64_t> sample_ids;  // [documents]
};

}  // namespace phi3tune::model
