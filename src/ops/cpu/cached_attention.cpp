// Generation's attention: few new tokens by kernels of our own, a task for each sequence and key/value head; many by
// flash-for-CPU over blocks of queries, under a mask of what each sees.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"

namespace phi3tune::ops::cpu {

int64_t cached_attention_scratch(const CachedQueries& queries) noexcept {
  constexpr int64_t kShares = 64;
  return kShares + queries.tokens * queries.group * (2 * queries.head_dim + 2);
}

namespace {

constexpr int64_t kFewTokens = 16;    // of a sequence: for the kernels
constexpr int64_t kQueryBlock = 256;  // of a mask

int64_t tokens_of(const Documents& documents, size_t i) {
  return documents.cu_seqlens[i + 1] - documents.cu_seqlens[i];
}

template <typename T, typename W>
void few_tokens(const Kernels<T, W>& kernels, T* out, const T* qkv, const CachedSequence& sequence, int64_t tokens,
                int64_t head, const HeadShape& heads, int64_t window) {
  const int64_t group = heads.num_heads / heads.num_kv_heads;
  const int64_t dim = heads.head_dim;
  const CachedQueries queries{sequence.length - tokens,
                              tokens,
                              group,
                              dim,
                              (heads.num_heads + 2 * heads.num_kv_heads) * dim,
                              heads.num_heads * dim,
                              window,
                              1.0 / std::sqrt(static_cast<double>(dim))};
  std::vector<W> scratch(static_cast<size_t>(cached_attention_scratch(queries)));
  const int64_t in_cache = head * sequence.keys.size(1) * dim;
  kernels.cached_attention(out + head * group * dim, qkv + head * group * dim, data<T>(sequence.keys) + in_cache,
                           data<T>(sequence.values) + in_cache, scratch.data(), queries);
}

void many_tokens(const at::Tensor& out, const at::Tensor& qkv, const CachedSequence& sequence, const HeadShape& heads,
                 int64_t window) {
  const int64_t tokens = qkv.size(0);
  const int64_t width = heads.num_heads * heads.head_dim;
  for (int64_t row = 0; row < tokens; row += kQueryBlock) {
    const int64_t count = std::min(kQueryBlock, tokens - row);
    const int64_t first = sequence.length - tokens + row;
    const int64_t begin = window > 0 ? std::max<int64_t>(0, first - window + 1) : 0;
    const int64_t keys = first + count - begin;
    const auto heads_of = [&](const at::Tensor& rows) {
      return rows.narrow(0, row, count)
          .narrow(1, 0, width)
          .view({1, count, heads.num_heads, heads.head_dim})
          .transpose(1, 2);
    };
    const auto distance = at::arange(first, first + count, at::kLong).unsqueeze(1) -
                          at::arange(begin, begin + keys, at::kLong).unsqueeze(0);
    auto hidden = distance.lt(0);
    if (window > 0) {
      hidden.logical_or_(distance.ge(window));
    }
    const auto mask =
        at::zeros({count, keys}, qkv.options()).masked_fill_(hidden, -std::numeric_limits<double>::infinity());
    const auto [result, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(
        heads_of(qkv), sequence.keys.narrow(1, begin, keys).unsqueeze(0),
        sequence.values.narrow(1, begin, keys).unsqueeze(0), 0.0, false, mask);
    heads_of(out).copy_(result);
  }
}

}  // namespace

void append_to_cache(const at::Tensor& qkv, const Documents& documents, std::span<const CachedSequence> sequences,
                     const HeadShape& heads) {
  const int64_t bytes = heads.head_dim * qkv.element_size();
  const int64_t row_bytes = qkv.size(1) * qkv.element_size();
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto& sequence = sequences[i];
    const int64_t tokens = tokens_of(documents, i);
    const auto* rows = data<const std::byte>(qkv) + documents.cu_seqlens[i] * row_bytes + heads.num_heads * bytes;
    for (const auto& [to, of] : {std::pair{data<std::byte>(sequence.keys), int64_t{0}},
                                 std::pair{data<std::byte>(sequence.values), heads.num_kv_heads}}) {
      for (int64_t head = 0; head < heads.num_kv_heads; ++head) {
        for (int64_t token = 0; token < tokens; ++token) {
          const int64_t position = head * sequence.keys.size(1) + sequence.length - tokens + token;
          std::memcpy(to + position * bytes, rows + token * row_bytes + (of + head) * bytes,
                      static_cast<size_t>(bytes));
        }
      }
    }
  }
}

void cached_attention(const at::Tensor& out, const at::Tensor& qkv, const Documents& documents,
                      std::span<const CachedSequence> sequences, const HeadShape& heads, int64_t window) {
  for (size_t i = 0; i < sequences.size(); ++i) {
    const int64_t tokens = tokens_of(documents, i);
    if (tokens > kFewTokens) {
      many_tokens(out.narrow(0, documents.cu_seqlens[i], tokens), qkv.narrow(0, documents.cu_seqlens[i], tokens),
                  sequences[i], heads, window);
    }
  }
  const auto tasks = static_cast<int64_t>(sequences.size()) * heads.num_kv_heads;
  with_kernels(qkv.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const auto i = static_cast<size_t>(task / heads.num_kv_heads);
        const int64_t tokens = tokens_of(documents, i);
        if (tokens > 0 && tokens <= kFewTokens) {
          const int64_t row = documents.cu_seqlens[i];
          few_tokens(k, data<T>(out) + row * out.size(1), data<T>(qkv) + row * qkv.size(1), sequences[i], tokens,
                     task % heads.num_kv_heads, heads, window);
        }
      }
    });
  });
}

}  // namespace phi3tune::ops::cpu
