#include "phi3tune/plan/step_buffers.h"

#include <algorithm>

#include "phi3tune/core/error.h"
#include "plan/walk.h"

namespace phi3tune::plan {
namespace {

using phi3::LinearKind;

class StepWalk {
 public:
  explicit StepWalk(const StepShape& shape) : shape_(shape) {}

  // `extra`: room behind each row.
  Buffer take(int64_t rows, int64_t cols, int64_t extra = 0, Element element = Element::kCompute) {
    const int64_t ld = cols + extra;
    return {walk_.take(rows * ld, element_size(shape_, element)), rows, cols, ld, element};
  }
  Buffer take_wide(int64_t rows, int64_t cols) { return take(rows, cols, 0, Element::kWide); }
  size_t bytes() const noexcept { return walk_.bytes(); }

 private:
  const StepShape& shape_;
  Walk walk_;
};

struct Room {
  int64_t qkv, o, gate_up, down;
  explicit Room(const StepShape& shape)
      : qkv(extension(shape, LinearKind::kQkv)),
        o(extension(shape, LinearKind::kO)),
        gate_up(extension(shape, LinearKind::kGateUp)),
        down(extension(shape, LinearKind::kDown)) {}
};

// Takes the buffers of one policy item into `layer`.
class LayerWalk {
 public:
  LayerWalk(StepWalk& walk, const phi3::ModelConfig& config, int64_t tokens, const Room& room)
      : walk_(walk), config_(config), tokens_(tokens), room_(room) {}

  void qkv(LayerBuffers& layer) {
    layer.rstd_attention = walk_.take_wide(tokens_, 1);
    layer.qkv = walk_.take(tokens_, config_.qkv_size());
  }
  void attention(LayerBuffers& layer) {
    layer.attention = walk_.take(tokens_, config_.q_size(), room_.o);
    layer.lse = walk_.take_wide(config_.num_heads, tokens_);
    layer.middle = walk_.take(tokens_, config_.hidden_size);
  }
  void gate_up(LayerBuffers& layer) {
    layer.rstd_mlp = walk_.take_wide(tokens_, 1);
    layer.gate_up = walk_.take(tokens_, 2 * config_.intermediate_size, room_.gate_up);
  }

 private:
  StepWalk& walk_;
  const phi3::ModelConfig& config_;
  int64_t tokens_;
  const Room& room_;
};

void take_layers(StepWalk& walk, const phi3::ModelConfig& config, const StepShape& shape, const Room& room,
                 bool training, StepBuffers& buffers) {
  LayerWalk take(walk, config, shape.tokens, room);
  const auto count = static_cast<size_t>(config.num_layers);
  std::vector<Kept> kept(count, Kept{false, false, false});
  for (size_t i = 0; training && i < count; ++i) {
    kept[i] = kept_by(shape.saved.at(i));
  }
  // What some layer does not keep has one place for all of these.
  LayerBuffers shared;
  if (std::any_of(kept.begin(), kept.end(), [](const Kept& k) { return !k.qkv; })) {
    take.qkv(shared);
  }
  if (std::any_of(kept.begin(), kept.end(), [](const Kept& k) { return !k.attention; })) {
    take.attention(shared);
  }
  if (std::any_of(kept.begin(), kept.end(), [](const Kept& k) { return !k.gate_up; })) {
    take.gate_up(shared);
  }
  for (size_t i = 0; i < count; ++i) {
    LayerBuffers layer = shared;
    if (kept[i].qkv) {
      take.qkv(layer);
    }
    if (kept[i].attention) {
      take.attention(layer);
    }
    if (kept[i].gate_up) {
      take.gate_up(layer);
    }
    for (size_t kind = 0; kind < layer.lora_product.size(); ++kind) {
      const int64_t rank = shape.ranks.empty() ? 0 : shape.ranks[i][kind];
      if (rank > 0) {
        layer.lora_product[kind] = walk.take(shape.tokens, rank);
      }
    }
    buffers.layers.push_back(layer);
  }
}

void take_residuals(StepWalk& walk, const phi3::ModelConfig& config, const StepShape& shape, bool training,
                    StepBuffers& buffers) {
  const bool offloading = training && !shape.saved.empty() && shape.saved.front() == SavedActivations::kOffload;
  const int64_t count = config.num_layers + 1;
  // Offloading: the one that a layer reads, the one it writes, and one on its way out or in.
  const int64_t kept = std::min(count, training ? (offloading ? 3 : count) : 2);
  for (int64_t i = 0; i < kept; ++i) {
    buffers.residuals.push_back(walk.take(shape.tokens, config.hidden_size));
  }
  for (int64_t i = kept; i < count; ++i) {
    buffers.residuals.push_back(buffers.residuals[static_cast<size_t>(i % kept)]);
  }
  if (offloading) {
    // The last two never leave.
    buffers.host_bytes = static_cast<size_t>(std::max<int64_t>(0, config.num_layers - 2)) *
                         Walk::aligned(static_cast<size_t>(shape.tokens * config.hidden_size) * shape.element_size);
  }
}

void take_inputs(StepWalk& walk, const phi3::ModelConfig& config, const StepShape& shape, StepBuffers& buffers) {
  const int64_t m = shape.tokens;
  const int64_t r = shape.trained_rows;
  buffers.input_ids = walk.take(m, 1, 0, Element::kInt64);
  buffers.target_rows = walk.take(r, 1, 0, Element::kInt64);
  buffers.targets = walk.take(r, 1, 0, Element::kInt64);
  buffers.weights = walk.take_wide(r, 1);
  buffers.cu_seqlens = walk.take(shape.documents + 1, 1, 0, Element::kInt32);
  buffers.sample_ids = walk.take(shape.documents, 1, 0, Element::kInt64);
  buffers.cosine = walk.take_wide(m, config.rotary_dim / 2);
  buffers.sine = walk.take_wide(m, config.rotary_dim / 2);
}

int64_t most_adapted_outputs(const phi3::ModelConfig& config, const StepShape& shape) {
  int64_t most = 0;
  for (const auto& layer : shape.ranks) {
    for (size_t kind = 0; kind < layer.size(); ++kind) {
      most = layer[kind] > 0 ? std::max(most, phi3::linear_out(config, static_cast<LinearKind>(kind))) : most;
    }
  }
  return most;
}

void take_backward(StepWalk& walk, const phi3::ModelConfig& config, const StepShape& shape, const Room& room,
                   StepBuffers& buffers) {
  const int64_t m = shape.tokens;
  int64_t largest_rank = 0;
  for (const auto& layer : shape.ranks) {
    largest_rank = std::max(largest_rank, *std::max_element(layer.begin(), layer.end()));
  }
  buffers.d_residual = walk.take(m, config.hidden_size, std::max(room.o, room.down));
  buffers.d_normed = walk.take(m, config.hidden_size);
  buffers.d_hidden = walk.take(m, config.intermediate_size);
  buffers.d_attention = walk.take(m, config.q_size());
  buffers.d_qkv = walk.take(m, config.qkv_size(), room.qkv);
  buffers.d_lora = walk.take(m, shape.extended ? 0 : largest_rank);
}

void take_head(StepWalk& walk, const phi3::ModelConfig& config, const StepShape& shape, bool training,
               StepBuffers& buffers) {
  const int64_t r = shape.trained_rows;
  const int64_t chunk = std::min(r, shape.head_chunk);
  buffers.head_input = walk.take(r, config.hidden_size);
  buffers.head_normed = walk.take(r, config.hidden_size);
  buffers.head_rstd = walk.take_wide(r, 1);
  if (training) {
    buffers.d_head = walk.take(r, config.hidden_size);
  }
  buffers.logits = walk.take(chunk, config.vocab_size);
  buffers.row_losses = walk.take_wide(2, chunk);
}

}  // namespace

Kept kept_by(SavedActivations saved) {
  switch (saved) {
    case SavedActivations::kNone:
      return {true, true, true};
    case SavedActivations::kGateUp:
      return {true, true, false};
    case SavedActivations::kAttention:
      return {false, true, false};
    case SavedActivations::kBlock:
    case SavedActivations::kOffload:
      return {false, false, false};
    case SavedActivations::kAuto:
      break;
  }
  throw InternalError("internal error: the saved activations of a step are not settled");
}

size_t element_size(const StepShape& shape, Element element) noexcept {
  switch (element) {
    case Element::kCompute:
      return shape.element_size;
    case Element::kWide:
      return shape.wide_size;
    case Element::kInt64:
      return 8;
    case Element::kInt32:
      return 4;
  }
  return 0;
}

int64_t extension(const StepShape& shape, LinearKind kind) {
  int64_t largest = 0;
  if (shape.extended) {
    for (const auto& layer : shape.ranks) {
      largest = std::max(largest, layer[static_cast<size_t>(kind)]);
    }
  }
  return (largest + 7) / 8 * 8;
}

StepBuffers declare_step_buffers(const phi3::ModelConfig& config, const StepShape& shape, Purpose purpose) {
  StepWalk walk(shape);
  StepBuffers buffers;
  const bool training = purpose == Purpose::kTrain;
  const Room room(shape);
  take_residuals(walk, config, shape, training, buffers);
  take_layers(walk, config, shape, room, training, buffers);
  take_inputs(walk, config, shape, buffers);
  buffers.normed = walk.take(shape.tokens, config.hidden_size, std::max(room.qkv, room.gate_up));
  buffers.delta = walk.take(shape.tokens, config.hidden_size);
  buffers.hidden = walk.take(shape.tokens, config.intermediate_size, room.down);
  if (shape.dropout && training) {
    buffers.dropped =
        walk.take(shape.tokens, std::max({config.hidden_size, config.intermediate_size, config.q_size()}));
  }
  if (shape.magnitudes > 0 && training) {
    buffers.scaled = walk.take(shape.tokens, most_adapted_outputs(config, shape));
  }
  if (training) {
    take_backward(walk, config, shape, room, buffers);
  }
  take_head(walk, config, shape, training, buffers);
  buffers.bytes = walk.bytes();
  return buffers;
}

}  // namespace phi3tune::plan
