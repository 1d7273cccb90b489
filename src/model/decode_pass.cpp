#include "decode_pass.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/ops/magnitude.h"

namespace phi3tune::model {
namespace {

using phi3::LinearKind;

constexpr size_t kFewTokens = 8;
constexpr int64_t kLongPass = 64;  // rows from which on a stop is worth polling for

int64_t largest_rank(const LoraAdapters* adapters) {
  int64_t rank = 0;
  if (adapters != nullptr) {
    for (const auto& pair : adapters->pairs()) {
      rank = std::max(rank, pair.rank);
    }
  }
  return rank;
}

}  // namespace

bool DecodePass::begins_alone(const Part& part) noexcept { return part.first == 0 && part.tokens.size() > kFewTokens; }

ops::HeadShape DecodePass::heads() const {
  const auto& config = network_.config();
  return {config.num_heads, config.num_kv_heads, config.head_dim, config.rotary_dim};
}

void DecodePass::size_buffers(int64_t rows) {
  const int64_t rank = largest_rank(network_.adapters());
  if (rows == rows_ && rank == rank_) {
    return;
  }
  const auto& config = network_.config();
  const auto compute = at::dtype(network_.compute_dtype());
  const auto wide = at::dtype(network_.compute_dtype() == at::kDouble ? at::kDouble : at::kFloat);
  rows_ = 0;
  buffers_ = {};
  try {
    auto& b = buffers_;
    b.ids = at::empty({rows}, at::dtype(at::kLong));
    b.cosine = at::empty({rows, config.rotary_dim / 2}, wide);
    b.sine = at::empty({rows, config.rotary_dim / 2}, wide);
    b.rstd = at::empty({rows}, wide);
    b.residual = at::empty({rows, config.hidden_size}, compute);
    b.normed = at::empty({rows, config.hidden_size}, compute);
    b.delta = at::empty({rows, config.hidden_size}, compute);
    b.qkv = at::empty({rows, config.qkv_size()}, compute);
    b.attention = at::empty({rows, config.q_size()}, compute);
    b.gate_up = at::empty({rows, 2 * config.intermediate_size}, compute);
    b.hidden = at::empty({rows, config.intermediate_size}, compute);
    b.lse = at::empty({rows * config.num_heads}, wide);
    b.low = at::empty({rows * rank}, compute);
  } catch (const c10::Error&) {
    throw ResourceError("memory: a pass over {} tokens could not be allocated; use fewer sequences at a time", rows);
  }
  rows_ = rows;
  rank_ = rank;
}

void DecodePass::linear(int64_t layer, LinearKind kind, const at::Tensor& y, const at::Tensor& x) {
  auto& weights = network_.weights();
  const auto* quantized = weights.quantized(layer, kind);
  if (quantized != nullptr && rows_ <= ops::kFewRows) {
    ops::quantized_linear(y, x, *quantized);  // dequantising would take longer than the product
  } else {
    ops::linear(y, x, {weights.linear(layer, kind, nullptr).matrix});
  }
  const auto* pair = network_.adapters() == nullptr ? nullptr : network_.adapters()->find(layer, kind);
  if (pair != nullptr) {
    ops::add_low_rank(y, buffers_.low.narrow(0, 0, rows_ * pair->rank).view({rows_, pair->rank}), x,
                      {pair->compute_a, pair->compute_b, pair->scale});
    if (pair->magnitude.defined()) {
      ops::scale_columns(y, y, network_.dora_factors(*pair));
    }
  }
}

void DecodePass::attend(int64_t layer, std::span<const Part> parts) {
  const auto& b = buffers_;
  const int64_t window = network_.config().sliding_window.value_or(0);
  std::vector<ops::CachedSequence> sequences;
  sequences.reserve(parts.size());
  for (const auto& part : parts) {
    sequences.push_back(
        {part.cache->keys(layer), part.cache->values(layer), part.first + static_cast<int64_t>(part.tokens.size())});
  }
  ops::append_to_cache(b.qkv, {ends_}, sequences, heads());
  if (alone_rows_ > 0) {
    ops::attention(b.attention.narrow(0, 0, alone_rows_),
                   b.lse.narrow(0, 0, alone_rows_ * heads().num_heads).view({heads().num_heads, alone_rows_}),
                   b.qkv.narrow(0, 0, alone_rows_), {alone_ends_}, heads(), window);
  }
  if (alone_rows_ < rows_) {
    ops::cached_attention(b.attention.narrow(0, alone_rows_, rows_ - alone_rows_),
                          b.qkv.narrow(0, alone_rows_, rows_ - alone_rows_), {cached_ends_},
                          std::span(sequences).subspan(alone_parts_), heads(), window);
  }
}

at::Tensor DecodePass::run(std::span<const Part> parts) {
  ends_.assign(1, 0);
  alone_ends_.assign(1, 0);
  cached_ends_.assign(1, 0);
  for (const auto& part : parts) {
    const auto tokens = static_cast<int32_t>(part.tokens.size());
    ends_.push_back(ends_.back() + tokens);
    auto& ends = begins_alone(part) ? alone_ends_ : cached_ends_;
    require(&ends == &cached_ends_ || cached_ends_.size() == 1, "parts that begin alone come first");
    ends.push_back(ends.back() + tokens);
  }
  alone_rows_ = alone_ends_.back();
  alone_parts_ = alone_ends_.size() - 1;
  size_buffers(ends_.back());

  const auto& b = buffers_;
  const auto& config = network_.config();
  auto& weights = network_.weights();
  auto* ids = b.ids.data_ptr<int64_t>();
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto& part = parts[i];
    ids = std::copy(part.tokens.begin(), part.tokens.end(), ids);
    const auto rows = static_cast<int64_t>(part.tokens.size());
    network_.rotary().fill(b.cosine.narrow(0, ends_[i], rows), b.sine.narrow(0, ends_[i], rows), part.first,
                           part.long_factors);
  }
  ops::gather_rows(b.residual, network_.embedding(), b.ids);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (rows_ >= kLongPass && stop_requested()) {
      throw Interrupted("stopped while reading a prompt: nothing was generated from it");
    }
    if (layer == 0) {
      ops::rms_norm(b.normed, b.rstd, b.residual, weights.attention_norm(layer), config.rms_norm_eps);
    } else {
      ops::add_rms_norm(b.normed, b.rstd, b.residual, b.residual, b.delta, weights.attention_norm(layer),
                        config.rms_norm_eps);
    }
    linear(layer, LinearKind::kQkv, b.qkv, b.normed);
    ops::rope(b.qkv, b.cosine, b.sine, heads(), /*inverse=*/false);
    attend(layer, parts);
    linear(layer, LinearKind::kO, b.delta, b.attention);
    ops::add_rms_norm(b.normed, b.rstd, b.residual, b.residual, b.delta, weights.mlp_norm(layer), config.rms_norm_eps);
    linear(layer, LinearKind::kGateUp, b.gate_up, b.normed);
    ops::swiglu(b.hidden, b.gate_up);
    linear(layer, LinearKind::kDown, b.delta, b.hidden);
  }
  ops::add(b.residual, b.residual, b.delta);
  return b.residual;
}

at::Tensor DecodePass::logits(const at::Tensor& rows) {
  const auto& config = network_.config();
  const auto wide = network_.compute_dtype() == at::kDouble ? at::kDouble : at::kFloat;
  const auto normed = at::empty_like(rows);
  const auto rstd = at::empty({rows.size(0)}, at::dtype(wide));
  ops::rms_norm(normed, rstd, rows, network_.weights().final_norm(), config.rms_norm_eps);
  const auto logits = at::empty({rows.size(0), config.vocab_size}, rows.options());
  ops::linear(logits, normed, network_.head_weight());
  return logits.to(wide);
}

}  // namespace phi3tune::model
