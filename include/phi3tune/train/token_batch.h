// A micro-batch of the data layer as the tensors a model reads.
#pragma once

#include <ATen/core/Tensor.h>

#include "phi3tune/data/batching.h"
#include "phi3tune/model/batch.h"

namespace phi3tune::train {

// `wide`: dtype of the weights, float32 or float64.
model::TokenBatch to_token_batch(const data::MicroBatch& batch, at::ScalarType wide);

}  // namespace phi3tune::train
