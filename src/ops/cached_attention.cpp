// Generation's attention: new tokens over what a cache holds.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <vector>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {
namespace {

void check_sequences(const Check& check, const at::Tensor& qkv, const Documents& documents,
                     std::span<const CachedSequence> sequences, const HeadShape& heads) {
  const at::ScalarType dtype = check.compute_dtype("qkv", qkv);
  check.heads(heads);
  const int64_t tokens = check.size("qkv", qkv, 2, 0);
  check.tensor("qkv", qkv, dtype, {tokens, (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim});
  check.documents(documents, tokens);
  check.that(sequences.size() + 1 == documents.cu_seqlens.size(), "a sequence for every document");
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto& sequence = sequences[i];
    const int64_t capacity = check.size("keys", sequence.keys, 3, 1);
    check.tensor("keys", sequence.keys, dtype, {heads.num_kv_heads, capacity, heads.head_dim});
    check.tensor("values", sequence.values, dtype, {heads.num_kv_heads, capacity, heads.head_dim});
    check.that(sequence.length <= capacity, "the sequence is longer than its place");
    check.that(documents.cu_seqlens[i + 1] - documents.cu_seqlens[i] <= sequence.length,
               "the new tokens are a part of the sequence");
  }
}

}  // namespace

void append_to_cache(const at::Tensor& qkv, const Documents& documents, std::span<const CachedSequence> sequences,
                     const HeadShape& heads) {
  const Check check("append_to_cache");
  check_sequences(check, qkv, documents, sequences, heads);
  check.that(backend().append_to_cache != nullptr, "this back end does not generate");
  backend().append_to_cache(qkv, documents, sequences, heads);
}

at::Tensor definition::cached_attention(const at::Tensor& qkv, const Documents& documents,
                                        std::span<const CachedSequence> sequences, const HeadShape& heads,
                                        int64_t window) {
  const at::ScalarType wide = wide_dtype(qkv.scalar_type());
  const int64_t group = heads.num_heads / heads.num_kv_heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(heads.head_dim));
  std::vector<at::Tensor> outs;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const int64_t tokens = documents.cu_seqlens[i + 1] - documents.cu_seqlens[i];
    const int64_t length = sequences[i].length;
    const auto q = qkv.narrow(0, documents.cu_seqlens[i], tokens)
                       .narrow(1, 0, heads.num_heads * heads.head_dim)
                       .view({tokens, heads.num_heads, heads.head_dim})
                       .transpose(0, 1);  // [N, T, H]
    const auto k = sequences[i].keys.narrow(1, 0, length).to(qkv.scalar_type()).repeat_interleave(group, 0);
    const auto v = sequences[i].values.narrow(1, 0, length).to(qkv.scalar_type()).repeat_interleave(group, 0);
    const auto distance =
        at::arange(length - tokens, length, at::kLong).unsqueeze(1) - at::arange(length, at::kLong).unsqueeze(0);
    const auto hidden = at::logical_or(distance.lt(0), distance.ge(window > 0 ? window : length + 1));
    const auto scores = (at::matmul(q, k.transpose(1, 2)) * scale)
                            .to(wide)
                            .masked_fill(hidden, -std::numeric_limits<double>::infinity());
    outs.push_back(at::matmul(at::softmax(scores, -1).to(qkv.scalar_type()), v)
                       .transpose(0, 1)
                       .reshape({tokens, heads.num_heads * heads.head_dim}));
  }
  return at::cat(outs, 0);
}

void cached_attention(const at::Tensor& out, const at::Tensor& qkv, const Documents& documents,
                      std::span<const CachedSequence> sequences, const HeadShape& heads, int64_t window) {
  const Check check("cached_attention");
  check_sequences(check, qkv, documents, sequences, heads);
  check.tensor("out", out, qkv.scalar_type(), {qkv.size(0), heads.num_heads * heads.head_dim});
  check.that(window >= 0, "the window is negative");
  check.that(backend().cached_attention != nullptr, "this back end does not generate");
  backend().cached_attention(out, qkv, documents, sequences, heads, window);
}

}  // namespace phi3tune::ops
