// What each op means, in plain ATen calls that autograd can differentiate: tests hold every back end to these.
//
// Each returns new tensors of the argument's dtype; statistics in the wide dtype, as in ops.h. Not for the hot path.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

#include "phi3tune/ops/ops.h"

namespace phi3tune::ops::definition {

// transformers' Phi3RMSNorm; in float64 without its detour through float32.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
at::Tensor rope(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, const HeadShape& heads,
                bool inverse);
// out [M, N H], lse [N, M]; a mask of T x T for each document.
std::pair<at::Tensor, at::Tensor> attention(const at::Tensor& qkv, const Documents& documents, const HeadShape& heads,
                                            int64_t window);
// out [M, N H]; the cache holds the new tokens already.
at::Tensor cached_attention(const at::Tensor& qkv, const Documents& documents,
                            std::span<const CachedSequence> sequences, const HeadShape& heads, int64_t window);
at::Tensor swiglu(const at::Tensor& gate_up);
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight);
// Dequantised in x's dtype, then linear.
at::Tensor quantized_linear(const at::Tensor& x, const quant::Nf4Tensor& weight);
// 0 where an element is dropped, 1 / (1 - p) elsewhere; [documents' tokens, columns] wide, one element at a time.
at::Tensor dropout_factors(int64_t columns, const Documents& documents, const DropoutKey& key, at::ScalarType wide);
at::Tensor dropout(const at::Tensor& x, const Documents& documents, const DropoutKey& key);
// What add_noise adds, [documents' tokens, columns] wide, one element at a time.
at::Tensor noise(int64_t columns, const Documents& documents, const NoiseKey& key, at::ScalarType wide);
// y + scale * (x A^T) B^T.
at::Tensor lora(const at::Tensor& y, const at::Tensor& x, const at::Tensor& a, const at::Tensor& b, double scale);
at::Tensor gather_rows(const at::Tensor& table, const at::Tensor& ids);
at::Tensor scatter_rows(const at::Tensor& x, const at::Tensor& rows, int64_t count);
// Sum of weight * cross-entropy, a scalar of the wide dtype.
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights);
// The new parameters and moments, in the dtype of the arguments; the gradients are scaled already.
struct AdamWState {
  at::Tensor parameters, moment1, moment2;
};
AdamWState adamw(const AdamWState& state, const at::Tensor& gradients, const AdamWStep& step);

}  // namespace phi3tune::ops::definition
