// FlashAttention as libtorch carries it, on all documents of a micro-batch at once. float32, and head widths that it
// does not know, are computed in blocks of queries, document by document.
#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "cuda/calls.h"
#include "cuda/platform.h"
#include "ops/cpu/attention_blocks.h"
#include "phi3tune/core/log.h"

namespace phi3tune::cuda::platform {
namespace {

using at::Tensor;

bool flash_serves(const Tensor& qkv, const ops::HeadShape& heads) {
  return qkv.scalar_type() == at::kBFloat16 && heads.head_dim % 8 == 0 && heads.head_dim <= 256;
}

void say_once(bool flash) {
  static bool said[2] = {false, false};
  if (!std::exchange(said[flash ? 1 : 0], true)) {
    log_info("attention on the GPU: {}", flash ? "FlashAttention 2 of libtorch, on packed documents"
                                               : "blocks of queries in float32 (slow; for comparisons)");
  }
}

// [M, heads, H] views of columns of a flat tensor.
struct Views {
  Tensor q, k, v;
};
Tensor heads_of(const Tensor& flat, int64_t first, int64_t count, const ops::HeadShape& heads) {
  return flat.narrow(1, first * heads.head_dim, count * heads.head_dim).unflatten(1, {count, heads.head_dim});
}
Views views(const Tensor& qkv, const ops::HeadShape& heads) {
  return {heads_of(qkv, 0, heads.num_heads, heads), heads_of(qkv, heads.num_heads, heads.num_kv_heads, heads),
          heads_of(qkv, heads.num_heads + heads.num_kv_heads, heads.num_kv_heads, heads)};
}

// The longest document. At least 2: for one query the library turns to another kernel, with statistics laid out
// differently.
int64_t longest(const ops::Documents& documents) {
  int64_t length = 2;
  for (size_t i = 1; i < documents.cu_seqlens.size(); ++i) {
    length = std::max<int64_t>(length, documents.cu_seqlens[i] - documents.cu_seqlens[i - 1]);
  }
  return length;
}

// A query sees itself and window - 1 keys before it.
std::optional<int64_t> keys_before(int64_t window) {
  return window > 0 ? std::optional<int64_t>(window - 1) : std::nullopt;
}

// The gradient of q is otherwise summed in the order in which blocks happen to end. Only around the one call: under the
// flag other operators of the library refuse to run.
class Deterministic {
 public:
  Deterministic()
      : before_(at::globalContext().deterministicAlgorithms()),
        warn_only_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
    at::globalContext().setDeterministicAlgorithms(true, false);
  }
  Deterministic(const Deterministic&) = delete;
  Deterministic& operator=(const Deterministic&) = delete;
  ~Deterministic() { at::globalContext().setDeterministicAlgorithms(before_, warn_only_); }

 private:
  bool before_, warn_only_;
};

// f(first row, rows, window) for each document that is not empty; 0 stands for a window that sees all.
template <typename F>
void for_documents(const ops::Documents& documents, int64_t window, const F& f) {
  for (size_t i = 1; i < documents.cu_seqlens.size(); ++i) {
    const int64_t length = documents.cu_seqlens[i] - documents.cu_seqlens[i - 1];
    if (length > 0) {
      f(documents.cu_seqlens[i - 1], length, window > 0 ? window : length);
    }
  }
}
// [heads, T, H] of one document.
Tensor document_heads(const Tensor& x_MNH, int64_t begin, int64_t length) {
  return x_MNH.narrow(0, begin, length).transpose(0, 1);
}

}  // namespace

void attention(const Tensor& out, const Tensor& lse, const Tensor& qkv, const ops::Documents& documents,
               const ops::HeadShape& heads, int64_t window) {
  const bool flash = flash_serves(qkv, heads);
  say_once(flash);
  const auto [q, k, v] = views(qkv, heads);
  const Tensor out_heads = heads_of(out, 0, heads.num_heads, heads);
  guarded("attention", {&qkv}, [&, &q = q, &k = k, &v = v] {
    if (flash) {
      const int64_t length = longest(documents);
      const std::optional<Tensor> ends = documents.on_device;
      const auto results = at::_flash_attention_forward(
          q, k, v, ends, ends, length, length, /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false,
          std::optional<double>(), keys_before(window), std::optional<int64_t>(0));
      Tensor(out_heads).copy_(std::get<0>(results));
      Tensor(lse).copy_(std::get<1>(results));
      return;
    }
    for_documents(documents, window, [&](int64_t begin, int64_t length, int64_t seen) {
      ops::cpu::blocked_attention(document_heads(out_heads, begin, length), lse.narrow(1, begin, length),
                                  document_heads(q, begin, length), document_heads(k, begin, length),
                                  document_heads(v, begin, length), seen);
    });
  });
}

void attention_backward(const Tensor& dqkv, const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& qkv,
                        const ops::Documents& documents, const ops::HeadShape& heads, int64_t window) {
  const auto [q, k, v] = views(qkv, heads);
  const auto [dq, dk, dv] = views(dqkv, heads);
  const Tensor out_heads = heads_of(out, 0, heads.num_heads, heads);
  const Tensor dout_heads = heads_of(dout, 0, heads.num_heads, heads);
  guarded("attention_backward", {&qkv}, [&, &q = q, &k = k, &v = v, &dq = dq, &dk = dk, &dv = dv] {
    if (flash_serves(qkv, heads)) {
      const int64_t length = longest(documents);
      const Tensor unused = at::empty({0}, qkv.options().dtype(at::kLong));  // of dropout inside attention
      const Deterministic fixed_order;
      const auto [gq, gk, gv] = at::_flash_attention_backward(
          dout_heads, q, k, v, out_heads, lse, documents.on_device, documents.on_device, length, length,
          /*dropout_p=*/0.0, /*is_causal=*/true, unused, unused, std::optional<double>(), keys_before(window),
          std::optional<int64_t>(0));
      Tensor(dq).copy_(gq);
      Tensor(dk).copy_(gk);
      Tensor(dv).copy_(gv);
      return;
    }
    for_documents(documents, window, [&, &dq = dq, &dk = dk, &dv = dv](int64_t begin, int64_t length, int64_t seen) {
      ops::cpu::blocked_attention_backward(document_heads(dq, begin, length), document_heads(dk, begin, length),
                                           document_heads(dv, begin, length), document_heads(dout_heads, begin, length),
                                           document_heads(out_heads, begin, length), lse.narrow(1, begin, length),
                                           document_heads(q, begin, length), document_heads(k, begin, length),
                                           document_heads(v, begin, length), seen);
    });
  });
}

}  // namespace phi3tune::cuda::platform
