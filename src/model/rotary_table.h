// Cosines and sines of positions, as transformers' Phi3RotaryEmbedding makes them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "phi3tune/phi3/model_config.h"

namespace phi3tune::model {

class RotaryTable {
 public:
  RotaryTable(const phi3::ModelConfig& config, at::ScalarType compute_dtype);

  // Fills cosine and sine [M, rotary_dim / 2] (wide) for documents whose positions restart at 0. LongRoPE: the long
  // factors when the longest document has more than original_max_position_embeddings tokens, for every document of the
  // batch.
  void fill(const at::Tensor& cosine, const at::Tensor& sine, std::span<const int32_t> cu_seqlens);

  // Whether a sequence of that many tokens is rotated by the long factors.
  bool takes_long(int64_t tokens) const noexcept { return long_rope_ && tokens > original_positions_; }
  // Of the positions from `first` on, one a row.
  void fill(const at::Tensor& cosine, const at::Tensor& sine, int64_t first, bool long_factors);

 private:
  struct Table {
    at::Tensor inverse_frequency;  // [rotary_dim / 2] wide
    at::Tensor cosine, sine;       // [positions, rotary_dim / 2] wide, rounded to the compute dtype
  };
  void grow(Table& table, int64_t positions) const;

  at::ScalarType compute_dtype_;
  double attention_factor_;
  bool long_rope_;
  int64_t original_positions_;
  Table short_, long_;
};

}  // namespace phi3tune::model
