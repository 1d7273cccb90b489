// Attention document by document. bfloat16 by our tiles, but for the forward without a window, where ATen's
// flash-for-CPU is faster. Other types, and processors without the micro-kernels: flash-for-CPU where no window bites,
// blocks of queries over the keys they see where one does.
#include <ATen/ATen.h>

#include "ops/cpu/attention_blocks.h"
#include "ops/cpu/attention_tiles.h"
#include "ops/cpu/cpu_ops.h"

namespace phi3tune::ops::cpu {
namespace {

// [1, heads, T, H] views of one document's rows of a [M, columns] tensor.
struct Span {
  int64_t begin;
  int64_t length;
};

at::Tensor heads_view(const at::Tensor& flat, Span rows, int64_t first_column, int64_t heads, int64_t head_dim) {
  return flat.narrow(0, rows.begin, rows.length)
      .narrow(1, first_column, heads * head_dim)
      .view({rows.length, heads, head_dim})
      .transpose(0, 1)
      .unsqueeze(0);
}

struct Views {
  at::Tensor q, k, v;
};

Views fused_views(const at::Tensor& qkv, Span rows, const HeadShape& heads) {
  const int64_t width = heads.head_dim;
  const int64_t k_begin = heads.num_heads * width;
  const int64_t v_begin = k_begin + heads.num_kv_heads * width;
  return {heads_view(qkv, rows, 0, heads.num_heads, width), heads_view(qkv, rows, k_begin, heads.num_kv_heads, width),
          heads_view(qkv, rows, v_begin, heads.num_kv_heads, width)};
}

// f(rows, the document alone).
template <typename F>
void for_documents(const Documents& documents, const F& f) {
  for (size_t i = 1; i < documents.cu_seqlens.size(); ++i) {
    const Span rows{documents.cu_seqlens[i - 1], documents.cu_seqlens[i] - documents.cu_seqlens[i - 1]};
    if (rows.length > 0) {
      f(rows, Documents{documents.cu_seqlens.subspan(i - 1, 2)});
    }
  }
}

bool tiles_serve(const at::Tensor& qkv, const HeadShape& heads) {
  return qkv.scalar_type() == at::kBFloat16 && has_attention_tiles(heads);
}

bool window_bites(int64_t window, int64_t length) { return window > 0 && window < length; }

}  // namespace

void attention(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& qkv, const Documents& documents,
               const HeadShape& heads, int64_t window) {
  for_documents(documents, [&](Span rows, const Documents& document) {
    if (window_bites(window, rows.length) && tiles_serve(qkv, heads)) {
      attention_tiles(out, lse, qkv, document, heads, window);
      return;
    }
    const auto [q, k, v] = fused_views(qkv, rows, heads);
    const at::Tensor out_view = heads_view(out, rows, 0, heads.num_heads, heads.head_dim);
    const at::Tensor lse_view = lse.narrow(1, rows.begin, rows.length);
    if (window_bites(window, rows.length)) {
      blocked_attention(out_view[0], lse_view, q[0], k[0], v[0], window);
    } else {
      const auto [result, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, true);
      at::Tensor(out_view).copy_(result);
      at::Tensor(lse_view).copy_(log_sums[0]);
    }
  });
}

void attention_backward(const at::Tensor& dqkv, const at::Tensor& dout, const at::Tensor& out, const at::Tensor& lse,
                        const at::Tensor& qkv, const Documents& documents, const HeadShape& heads, int64_t window) {
  if (tiles_serve(qkv, heads)) {
    attention_backward_tiles(dqkv, dout, out, lse, qkv, documents, heads, window);
    return;
  }
  for_documents(documents, [&](Span rows, const Documents&) {
    const auto [q, k, v] = fused_views(qkv, rows, heads);
    const auto [dq, dk, dv] = fused_views(dqkv, rows, heads);
    const at::Tensor out_view = heads_view(out, rows, 0, heads.num_heads, heads.head_dim);
    const at::Tensor dout_view = heads_view(dout, rows, 0, heads.num_heads, heads.head_dim);
    const at::Tensor lse_view = lse.narrow(1, rows.begin, rows.length);
    if (window_bites(window, rows.length)) {
      blocked_attention_backward(dq[0], dk[0], dv[0], dout_view[0], out_view[0], lse_view, q[0], k[0], v[0], window);
      return;
    }
    const int64_t group = heads.num_heads / heads.num_kv_heads;
    const auto expand = [&](const at::Tensor& t) { return group == 1 ? t : t.repeat_interleave(group, 1); };
    const auto [gq, gk, gv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        dout_view, q, expand(k), expand(v), out_view, lse_view.unsqueeze(0), 0.0, true);
    at::Tensor(dq).copy_(gq);
    const auto reduce = [&](const at::Tensor& t, const at::Tensor& to) {
      if (group == 1) {
        at::Tensor(to).copy_(t);
      } else {
        const at::Tensor grouped = t.view({1, heads.num_kv_heads, group, rows.length, heads.head_dim});
        at::Tensor(to).copy_(grouped.sum(2, false, lse.scalar_type()));
      }
    };
    reduce(gk, dk);
    reduce(gv, dv);
  });
}

}  // namespace phi3tune::ops::cpu
