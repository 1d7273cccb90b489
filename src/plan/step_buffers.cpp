#include "phi3tune/plan/step_buffers.h"

#include <algorithm>

namespace phi3tune::plan {
namespace {

// One cache line, and enough for every vector load.
constexpr size_t kAlignment = 64;

class Walk {
 public:
  explicit Walk(const StepShape& shape) : shape_(shape) {}

  Buffer take(int64_t rows, int64_t cols, bool wide = false) {
    const Buffer buffer{bytes_, rows, cols, wide};
    const size_t size =
        static_cast<size_t>(rows) * static_cast<size_t>(cols) * (wide ? shape_.wide_size : shape_.element_size);
    bytes_ += (size + kAlignment - 1) / kAlignment * kAlignment;
    return buffer;
  }
  size_t bytes() const noexcept { return bytes_; }

 private:
  const StepShape& shape_;
  size_t bytes_ = 0;
};

void take_recomputable(Walk& walk, const phi3::ModelConfig& config, int64_t tokens, LayerBuffers& layer) {
  layer.rstd_attention = walk.take(tokens, 1, true);
  layer.qkv = walk.take(tokens, config.qkv_size());
  layer.attention = walk.take(tokens, config.q_size());
  layer.lse = walk.take(config.num_heads, tokens, true);
  layer.middle = walk.take(tokens, config.hidden_size);
  layer.rstd_mlp = walk.take(tokens, 1, true);
  layer.gate_up = walk.take(tokens, 2 * config.intermediate_size);
}

}  // namespace

StepBuffers declare_step_buffers(const phi3::ModelConfig& config, const StepShape& shape, Purpose purpose) {
  Walk walk(shape);
  StepBuffers buffers;
  const int64_t m = shape.tokens;
  const bool training = purpose != Purpose::kEvaluate;

  const int64_t kept_residuals = training ? config.num_layers + 1 : std::min<int64_t>(2, config.num_layers + 1);
  for (int64_t i = 0; i < kept_residuals; ++i) {
    buffers.residuals.push_back(walk.take(m, config.hidden_size));
  }
  for (int64_t i = kept_residuals; i <= config.num_layers; ++i) {
    buffers.residuals.push_back(buffers.residuals[static_cast<size_t>(i % kept_residuals)]);
  }

  int64_t largest_rank = 0;
  LayerBuffers shared;
  if (purpose != Purpose::kTrainSaving) {
    take_recomputable(walk, config, m, shared);
  }
  for (int64_t i = 0; i < config.num_layers; ++i) {
    LayerBuffers layer = shared;
    if (purpose == Purpose::kTrainSaving) {
      take_recomputable(walk, config, m, layer);
    }
    for (size_t kind = 0; kind < layer.lora_product.size(); ++kind) {
      const int64_t rank = shape.ranks.empty() ? 0 : shape.ranks[static_cast<size_t>(i)][kind];
      if (rank > 0) {
        layer.lora_product[kind] = walk.take(m, rank);
        largest_rank = std::max(largest_rank, rank);
      }
    }
    buffers.layers.push_back(layer);
  }

  buffers.cosine = walk.take(m, config.rotary_dim / 2, true);
  buffers.sine = walk.take(m, config.rotary_dim / 2, true);
  buffers.normed = walk.take(m, config.hidden_size);
  buffers.delta = walk.take(m, config.hidden_size);
  buffers.hidden = walk.take(m, config.intermediate_size);
  if (shape.dropout && training) {
    buffers.dropped = walk.take(m, std::max({config.hidden_size, config.intermediate_size, config.q_size()}));
  }
  if (training) {
    buffers.d_residual = walk.take(m, config.hidden_size);
    buffers.d_normed = walk.take(m, config.hidden_size);
    buffers.d_hidden = walk.take(m, config.intermediate_size);
    buffers.d_attention = walk.take(m, config.q_size());
    buffers.d_qkv = walk.take(m, config.qkv_size());
    buffers.d_lora = walk.take(m, largest_rank);
  }
  const int64_t r = shape.trained_rows;
  buffers.head_input = walk.take(r, config.hidden_size);
  buffers.head_normed = walk.take(r, config.hidden_size);
  buffers.head_rstd = walk.take(r, 1, true);
  if (training) {
    buffers.d_head = walk.take(r, config.hidden_size);
  }
  buffers.logits = walk.take(std::min(r, shape.head_chunk), config.vocab_size);
  buffers.bytes = walk.bytes();
  return buffers;
}

}  // namespace phi3tune::plan
