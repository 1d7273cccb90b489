// What one forward pass reads: documents, flat, and which rows are trained.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace phi3tune::model {

// In the host's memory, whatever computes.
struct TokenBatch {
  at::Tensor input_ids;              // int64 [M]
  std::vector<int32_t> cu_seqlens;   // [documents + 1], from 0 to M
  at::Tensor target_rows;            // int64 [R], ascending: rows whose logits predict a target
  at::Tensor targets;                // int64 [R]
  at::Tensor weights;                // [R], the wide dtype of the model (float32 or float64)
  std::vector<uint64_t> sample_ids;  // [documents]
};

// What a pass found, summed over its trained rows.
struct LossSums {
  double weighted_loss = 0.0;  // sum of weight * cross-entropy
  double weight = 0.0;         // sum of weights
  int64_t targets = 0;
  int64_t correct = 0;  // rows whose largest logit is the target
};

}  // namespace phi3tune::model
