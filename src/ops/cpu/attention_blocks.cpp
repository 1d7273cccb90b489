#include "ops/cpu/attention_blocks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/checks.h"

namespace phi3tune::ops::cpu {
namespace {

constexpr int64_t kQueries = 128;  // a block's queries

// Queries [begin, end) of the document see keys [first, end).
struct Block {
  int64_t begin;
  int64_t end;
  int64_t first;
  int64_t queries() const { return end - begin; }
  int64_t keys() const { return end - first; }
};

template <typename F>
void for_blocks(int64_t length, int64_t window, const F& f) {
  for (int64_t begin = 0; begin < length; begin += kQueries) {
    f(Block{begin, std::min(begin + kQueries, length), std::max<int64_t>(0, begin - window + 1)});
  }
}

// [queries, keys], true where a query must not look.
at::Tensor hidden_keys(const Block& block, int64_t window, const at::Tensor& like) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(like.device());
  const at::Tensor query = at::arange(block.begin, block.end, options).unsqueeze(1);
  const at::Tensor key = at::arange(block.first, block.end, options).unsqueeze(0);
  return at::logical_or(key.gt(query), key.le(query - window));
}

// Query heads of one key/value head as [G, group * queries, H] in the wide dtype.
at::Tensor grouped(const at::Tensor& t_NTH, const Block& block, int64_t kv_heads, at::ScalarType wide) {
  const at::Tensor rows = t_NTH.narrow(1, block.begin, block.queries()).to(wide);
  return rows.reshape({kv_heads, -1, t_NTH.size(2)});
}

at::Tensor keys_of(const at::Tensor& t_GTH, const Block& block, at::ScalarType wide) {
  return t_GTH.narrow(1, block.first, block.keys()).to(wide);
}

at::Tensor scores_of(const at::Tensor& q, const at::Tensor& k, const Block& block, int64_t window) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(2)));
  const at::Tensor scores = at::bmm(q, k.transpose(1, 2)).mul_(scale);
  scores.view({-1, block.queries(), block.keys()})
      .masked_fill_(hidden_keys(block, window, q), -std::numeric_limits<double>::infinity());
  return scores;
}

}  // namespace

void blocked_attention(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor& v, int64_t window) {
  const at::ScalarType wide = wide_dtype(q.scalar_type());
  for_blocks(q.size(1), window, [&](const Block& block) {
    const at::Tensor scores = scores_of(grouped(q, block, k.size(0), wide), keys_of(k, block, wide), block, window);
    const at::Tensor log_sums = at::logsumexp(scores, 2, true);
    const at::Tensor mixed = at::bmm(scores.sub_(log_sums).exp_(), keys_of(v, block, wide));
    out.narrow(1, block.begin, block.queries()).copy_(mixed.view({q.size(0), block.queries(), q.size(2)}));
    lse.narrow(1, block.begin, block.queries()).copy_(log_sums.view({q.size(0), block.queries()}));
  });
}

void blocked_attention_backward(const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv,
                                const at::Tensor& dout, const at::Tensor& out, const at::Tensor& lse,
                                const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window) {
  const at::ScalarType wide = wide_dtype(q.scalar_type());
  const int64_t kv_heads = k.size(0);
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(2)));
  const at::Tensor dk_wide = at::zeros_like(k, k.options().dtype(wide), at::MemoryFormat::Contiguous);
  const at::Tensor dv_wide = at::zeros_like(dk_wide);
  for_blocks(q.size(1), window, [&](const Block& block) {
    const at::Tensor q_block = grouped(q, block, kv_heads, wide);
    const at::Tensor k_block = keys_of(k, block, wide);
    const at::Tensor d_block = grouped(dout, block, kv_heads, wide);
    const at::Tensor log_sums = lse.narrow(1, block.begin, block.queries()).reshape({kv_heads, -1, 1});
    const at::Tensor shares = scores_of(q_block, k_block, block, window).sub_(log_sums).exp_();
    const at::Tensor dots = d_block.mul(grouped(out, block, kv_heads, wide)).sum(2, true);
    dv_wide.narrow(1, block.first, block.keys()).add_(at::bmm(shares.transpose(1, 2), d_block));
    const at::Tensor d_scores =
        at::bmm(d_block, keys_of(v, block, wide).transpose(1, 2)).sub_(dots).mul_(shares).mul_(scale);
    dq.narrow(1, block.begin, block.queries())
        .copy_(at::bmm(d_scores, k_block).view({q.size(0), block.queries(), q.size(2)}));
    dk_wide.narrow(1, block.first, block.keys()).add_(at::bmm(d_scores.transpose(1, 2), q_block));
  });
  dk.copy_(dk_wide);
  dv.copy_(dv_wide);
}

}  // namespace phi3tune::ops::cpu
