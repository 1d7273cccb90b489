// RoPE and attention on the fused qkv.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <vector>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {
namespace {

int64_t qkv_width(const HeadShape& heads) { return (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim; }

}  // namespace

at::Tensor definition::rope(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine,
                            const HeadShape& heads, bool inverse) {
  const int64_t half = heads.rotary_dim / 2;
  const at::Tensor all = qkv.view({qkv.size(0), heads.num_heads + 2 * heads.num_kv_heads, heads.head_dim});
  const int64_t turned = heads.num_heads + heads.num_kv_heads;
  const at::Tensor turning = all.narrow(1, 0, turned);
  const at::Tensor first = turning.narrow(2, 0, half);
  const at::Tensor second = turning.narrow(2, half, half);
  const at::Tensor rest = turning.narrow(2, 2 * half, heads.head_dim - 2 * half);
  const at::Tensor cos = cosine.to(qkv.scalar_type()).unsqueeze(1);
  const at::Tensor sin = (inverse ? sine.neg() : sine).to(qkv.scalar_type()).unsqueeze(1);
  const at::Tensor rotated = at::cat({first * cos - second * sin, second * cos + first * sin, rest}, 2);
  return at::cat({rotated, all.narrow(1, turned, heads.num_kv_heads)}, 1).view(qkv.sizes());
}

void rope(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, const HeadShape& heads,
          bool inverse) {
  const Check check("rope");
  const at::ScalarType dtype = check.compute_dtype("qkv", qkv);
  check.heads(heads);
  const int64_t tokens = check.size("qkv", qkv, 2, 0);
  check.rows("qkv", qkv, dtype, {tokens, qkv_width(heads)});
  check.tensor("cosine", cosine, wide_dtype(dtype), {tokens, heads.rotary_dim / 2});
  check.tensor("sine", sine, wide_dtype(dtype), {tokens, heads.rotary_dim / 2});
  backend().rope(qkv, cosine, sine, heads, inverse);
}

std::pair<at::Tensor, at::Tensor> definition::attention(const at::Tensor& qkv, const Documents& documents,
                                                        const HeadShape& heads, int64_t window) {
  const at::ScalarType wide = wide_dtype(qkv.scalar_type());
  const int64_t group = heads.num_heads / heads.num_kv_heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(heads.head_dim));
  std::vector<at::Tensor> outs, sums;
  for (size_t i = 1; i < documents.cu_seqlens.size(); ++i) {
    const int64_t length = documents.cu_seqlens[i] - documents.cu_seqlens[i - 1];
    const at::Tensor all = qkv.narrow(0, documents.cu_seqlens[i - 1], length)
                               .view({length, heads.num_heads + 2 * heads.num_kv_heads, heads.head_dim})
                               .transpose(0, 1);  // [N + 2G, T, H]
    const at::Tensor q = all.narrow(0, 0, heads.num_heads);
    const at::Tensor k = all.narrow(0, heads.num_heads, heads.num_kv_heads).repeat_interleave(group, 0);
    const at::Tensor v =
        all.narrow(0, heads.num_heads + heads.num_kv_heads, heads.num_kv_heads).repeat_interleave(group, 0);
    const at::Tensor position = at::arange(length, qkv.options().dtype(at::kLong));
    const at::Tensor distance = position.unsqueeze(1) - position.unsqueeze(0);
    const at::Tensor hidden = at::logical_or(distance.lt(0), distance.ge(window > 0 ? window : length + 1));
    const at::Tensor scores = (at::matmul(q, k.transpose(1, 2)) * scale)
                                  .to(wide)
                                  .masked_fill(hidden, -std::numeric_limits<double>::infinity());
    outs.push_back(at::matmul(at::softmax(scores, -1).to(qkv.scalar_type()), v)
                       .transpose(0, 1)
                       .reshape({length, heads.num_heads * heads.head_dim}));
    sums.push_back(at::logsumexp(scores, -1));
  }
  return {at::cat(outs, 0), at::cat(sums, 1)};
}

void attention(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& qkv, const Documents& documents,
               const HeadShape& heads, int64_t window) {
  const Check check("attention");
  const at::ScalarType dtype = check.compute_dtype("qkv", qkv);
  check.heads(heads);
  const int64_t tokens = check.size("qkv", qkv, 2, 0);
  check.tensor("qkv", qkv, dtype, {tokens, qkv_width(heads)});
  check.rows("out", out, dtype, {tokens, heads.num_heads * heads.head_dim});
  check.tensor("lse", lse, wide_dtype(dtype), {heads.num_heads, tokens});
  check.documents(documents, tokens);
  check.that(window >= 0, "the window is negative");
  backend().attention(out, lse, qkv, documents, heads, window);
}

void attention_backward(const at::Tensor& dqkv, const at::Tensor& dout, const at::Tensor& out, const at::Tensor& lse,
                        const at::Tensor& qkv, const Documents& documents, const HeadShape& heads, int64_t window) {
  const Check check("attention_backward");
  const at::ScalarType dtype = check.compute_dtype("qkv", qkv);
  check.heads(heads);
  const int64_t tokens = check.size("qkv", qkv, 2, 0);
  check.tensor("qkv", qkv, dtype, {tokens, qkv_width(heads)});
  check.rows("dqkv", dqkv, dtype, {tokens, qkv_width(heads)});
  check.rows("out", out, dtype, {tokens, heads.num_heads * heads.head_dim});
  check.tensor("dout", dout, dtype, {tokens, heads.num_heads * heads.head_dim});
  check.tensor("lse", lse, wide_dtype(dtype), {heads.num_heads, tokens});
  check.documents(documents, tokens);
  check.that(window >= 0, "the window is negative");
  backend().attention_backward(dqkv, dout, out, lse, qkv, documents, heads, window);
}

}  // namespace phi3tune::ops
