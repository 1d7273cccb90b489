// One pass of generation: new tokens of several sequences, flat, over what their caches hold.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "key_value_cache.h"
#include "network.h"
#include "phi3tune/ops/ops.h"

namespace phi3tune::model {

class DecodePass {
 public:
  explicit DecodePass(Network& network) : network_(network) {}

  // Tokens of one sequence, at the positions from `first` on. The cache holds what is before them and has room.
  struct Part {
    KeyValueCache* cache = nullptr;
    int64_t first = 0;
    std::span<const int32_t> tokens;
    bool long_factors = false;
  };
  // The residual stream after the last layer, [M, D], in the order of the parts, until the next call. A part with
  // begins_alone() comes before those without. Polls the stop flag between layers of a long pass: Interrupted.
  at::Tensor run(std::span<const Part> parts);
  // Reads more than a few tokens from the sequence's start, so that nothing of the cache is needed.
  static bool begins_alone(const Part& part) noexcept;
  // Logits [S, V] in the wide dtype, of rows [S, D] of the residual stream.
  at::Tensor logits(const at::Tensor& rows);

 private:
  struct Buffers {
    at::Tensor ids, cosine, sine, rstd;
    at::Tensor residual, normed, delta, qkv, attention, gate_up, hidden;
    at::Tensor lse;  // [N * M]
    at::Tensor low;  // [M * the largest rank]
  };
  void size_buffers(int64_t rows);
  void attend(int64_t layer, std::span<const Part> parts);
  void linear(int64_t layer, phi3::LinearKind kind, const at::Tensor& y, const at::Tensor& x);
  ops::HeadShape heads() const;

  Network& network_;
  Buffers buffers_;
  int64_t rows_ = 0, rank_ = 0;
  // Of the parts: those that begin alone, and the others, each as documents from 0 on.
  int64_t alone_rows_ = 0;
  size_t alone_parts_ = 0;
  std::vector<int32_t> ends_, alone_ends_, cached_ends_;
};

}  // namespace phi3tune::model
