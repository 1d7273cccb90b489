#include "phi3tune/train/token_batch.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace phi3tune::train {
namespace {

at::Tensor int64_tensor(const std::vector<int64_t>& values) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), tensor.data_ptr<int64_t>());
  return tensor;
}

}  // namespace

model::TokenBatch to_token_batch(const data::MicroBatch& batch, at::ScalarType wide) {
  model::TokenBatch tokens;
  tokens.input_ids = int64_tensor(batch.input_ids);
  tokens.cu_seqlens = batch.cu_seqlens;
  tokens.target_rows = int64_tensor(batch.target_rows);
  tokens.targets = int64_tensor(batch.targets);
  at::Tensor weights = at::empty({static_cast<int64_t>(batch.weights.size())}, at::kFloat);
  std::copy(batch.weights.begin(), batch.weights.end(), weights.data_ptr<float>());
  tokens.weights = weights.to(wide);
  tokens.sample_ids = batch.sample_ids;
  return tokens;
}

}  // namespace phi3tune::train
