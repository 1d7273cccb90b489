#include "rotary_table.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

namespace phi3tune::model {
namespace {

at::ScalarType wide(at::ScalarType compute) { return compute == at::kDouble ? at::kDouble : at::kFloat; }

// 1 / (factor * base^(2j / rotary_dim)), each step in the wide dtype as transformers takes it.
at::Tensor inverse_frequency(const phi3::ModelConfig& config, const std::vector<double>& factors,
                             at::ScalarType dtype) {
  const auto exponent =
      at::arange(0, config.rotary_dim, 2, at::dtype(at::kLong)).to(dtype).div(static_cast<double>(config.rotary_dim));
  auto frequency = at::pow(at::Scalar(config.rope.theta), exponent);
  if (!factors.empty()) {
    frequency = at::tensor(factors, at::dtype(at::kDouble)).to(dtype) * frequency;
  }
  return at::reciprocal(frequency);
}

}  // namespace

RotaryTable::RotaryTable(const phi3::ModelConfig& config, at::ScalarType compute_dtype)
    : compute_dtype_(compute_dtype),
      attention_factor_(config.rope.attention_factor),
      long_rope_(config.rope.type == phi3::RopeType::kLongRope),
      original_positions_(config.original_max_position_embeddings) {
  const auto dtype = wide(compute_dtype);
  short_.inverse_frequency =
      inverse_frequency(config, long_rope_ ? config.rope.short_factor : std::vector<double>{}, dtype);
  if (long_rope_) {
    long_.inverse_frequency = inverse_frequency(config, config.rope.long_factor, dtype);
  }
}

void RotaryTable::grow(Table& table, int64_t positions) const {
  const int64_t have = table.cosine.defined() ? table.cosine.size(0) : 0;
  if (have >= positions) {
    return;
  }
  const int64_t size = std::max<int64_t>({positions, 2 * have, 256});
  const auto dtype = table.inverse_frequency.scalar_type();
  const auto angle = at::arange(size, at::dtype(at::kLong)).to(dtype).unsqueeze(1) * table.inverse_frequency;
  table.cosine = (angle.cos() * attention_factor_).to(compute_dtype_).to(dtype);
  table.sine = (angle.sin() * attention_factor_).to(compute_dtype_).to(dtype);
}

void RotaryTable::fill(const at::Tensor& cosine, const at::Tensor& sine, std::span<const int32_t> cu_seqlens) {
  int64_t longest = 0;
  for (size_t i = 1; i < cu_seqlens.size(); ++i) {
    longest = std::max<int64_t>(longest, cu_seqlens[i] - cu_seqlens[i - 1]);
  }
  auto& table = takes_long(longest) ? long_ : short_;
  grow(table, longest);
  for (size_t i = 1; i < cu_seqlens.size(); ++i) {
    const int64_t begin = cu_seqlens[i - 1];
    const int64_t length = cu_seqlens[i] - begin;
    cosine.narrow(0, begin, length).copy_(table.cosine.narrow(0, 0, length));
    sine.narrow(0, begin, length).copy_(table.sine.narrow(0, 0, length));
  }
}

void RotaryTable::fill(const at::Tensor& cosine, const at::Tensor& sine, int64_t first, bool long_factors) {
  auto& table = long_factors ? long_ : short_;
  const int64_t rows = cosine.size(0);
  grow(table, first + rows);
  at::Tensor(cosine).copy_(table.cosine.narrow(0, first, rows));
  at::Tensor(sine).copy_(table.sine.narrow(0, first, rows));
}

}  // namespace phi3tune::model
