#include "phi3tune/plan/flops.h"

#include <algorithm>
#include <array>

namespace phi3tune::plan {
namespace {

using phi3::LinearKind;

constexpr std::array kKinds{LinearKind::kQkv, LinearKind::kO, LinearKind::kGateUp, LinearKind::kDown};

double in_of(const phi3::ModelConfig& config, LinearKind kind) {
  return static_cast<double>(phi3::linear_in(config, kind));
}
double out_of(const phi3::ModelConfig& config, LinearKind kind) {
  return static_cast<double>(phi3::linear_out(config, kind));
}
double rank_of(const StepShape& step, size_t layer, LinearKind kind) {
  return step.ranks.empty() ? 0.0 : static_cast<double>(step.ranks[layer][static_cast<size_t>(kind)]);
}

// Which products a layer's backward runs again. down_proj never: the layer's output is the next one's saved input.
struct Again {
  bool attention = false;  // RoPE, scores, o_proj and the residual after it
  bool qkv = false;
  bool gate_up = false;
};
Again again(const StepShape& step, size_t layer, size_t layers) {
  if (layer + 1 == layers || step.saved.empty()) {
    return {};
  }
  switch (step.saved[layer]) {
    case SavedActivations::kGateUp:
      return {false, false, true};
    case SavedActivations::kAttention:
      return {false, true, true};
    case SavedActivations::kBlock:
    case SavedActivations::kOffload:
      return {true, true, true};
    case SavedActivations::kNone:
    case SavedActivations::kAuto:
      break;
  }
  return {};
}

bool is_again(const Again& what, LinearKind kind) {
  switch (kind) {
    case LinearKind::kQkv:
      return what.qkv;
    case LinearKind::kO:
      return what.attention;
    case LinearKind::kGateUp:
      return what.gate_up;
    case LinearKind::kDown:
      break;
  }
  return false;
}

// The lowest layer with an adapter: the backward ends there. Offloaded inputs come back down to the first.
size_t lowest_trained(const StepShape& step) {
  if (!step.saved.empty() && step.saved.front() == SavedActivations::kOffload) {
    return 0;
  }
  const auto adapted = [](const auto& ranks) {
    return std::any_of(ranks.begin(), ranks.end(), [](int64_t rank) { return rank > 0; });
  };
  const auto found = std::find_if(step.ranks.begin(), step.ranks.end(), adapted);
  return found == step.ranks.end() ? 0 : static_cast<size_t>(found - step.ranks.begin());
}

// Elements that an elementwise kernel reads and writes for one token.
struct LayerElements {
  double norm;    // residual add and norm: reads both, writes the sum and its norm
  double normed;  // a norm again: reads the residual, writes the norm
  double rope;    // queries and keys in place
  double swiglu;  // reads gate and up, writes their product
  explicit LayerElements(const phi3::ModelConfig& c)
      : norm(4.0 * static_cast<double>(c.hidden_size)),
        normed(2.0 * static_cast<double>(c.hidden_size)),
        rope(2.0 * static_cast<double>(c.q_size() + c.kv_size())),
        swiglu(3.0 * static_cast<double>(c.intermediate_size)) {}
  double forward() const { return 2 * norm + rope + swiglu; }
  // The norms again and their backward (reads gradient, residual and the residual's gradient, writes that); RoPE
  // backwards; SwiGLU reads three and writes three.
  double backward() const { return 2 * norm + 2 * normed + rope + 2 * swiglu; }
};

}  // namespace

double mean_keys(std::span<const int64_t> documents, std::optional<int64_t> window) {
  double tokens = 0;
  double keys = 0;
  for (const int64_t length : documents) {
    const auto n = static_cast<double>(length);
    const auto w = static_cast<double>(window ? std::min(*window, length) : length);
    tokens += n;
    keys += w * (w + 1) / 2 + (n - w) * w;  // the first w queries see 1, 2, ... w
  }
  return tokens > 0 ? keys / tokens : 0;
}

StepFlops step_flops(const phi3::ModelConfig& config, const StepShape& step, double keys) {
  const auto m = static_cast<double>(step.tokens);
  const auto layers = static_cast<size_t>(config.num_layers);
  const auto lowest = lowest_trained(step);
  StepFlops flops;
  for (size_t i = 0; i < layers; ++i) {
    const bool backward = i >= lowest;
    const auto repeated = backward ? again(step, i, layers) : Again{};
    for (const auto kind : kKinds) {
      const double in = in_of(config, kind);
      const double out = out_of(config, kind);
      const double rank = rank_of(step, i, kind);
      const bool below = backward && (i > lowest || kind != LinearKind::kQkv);
      flops.forward.linear += 2 * m * in * out;
      flops.forward.lora += 2 * m * rank * (in + out);
      flops.backward.linear += below ? 2 * m * in * out : 0;
      // dU and dB read dY, dA reads x, and dU A is part of dX.
      flops.backward.lora += 2 * m * rank * (2 * out + in + (below ? in : 0));
      if (is_again(repeated, kind)) {
        flops.recompute.linear += 2 * m * in * out;
        flops.recompute.lora += 2 * m * rank * out;  // x A^T is kept
      }
    }
    const double attention = 4 * m * static_cast<double>(config.q_size()) * keys;
    flops.forward.attention += attention;
    flops.backward.attention += backward ? 2.5 * attention : 0;
    flops.recompute.attention += repeated.attention ? attention : 0;
  }
  const double head =
      2 * static_cast<double>(step.trained_rows) * static_cast<double>(config.vocab_size * config.hidden_size);
  flops.forward.head = head;
  flops.backward.head = head;
  return flops;
}

StepBytes step_bytes(const phi3::ModelConfig& config, const RunShape& shape) {
  const auto& step = shape.step;
  const auto m = static_cast<double>(step.tokens);
  const auto size = static_cast<double>(step.element_size);
  const auto layers = static_cast<size_t>(config.num_layers);
  const auto hidden = static_cast<double>(config.hidden_size);
  const LayerElements layer(config);
  StepBytes bytes;
  double elements = 0;
  double skinny = 0;
  for (size_t i = 0; i < layers; ++i) {
    const bool backward = i >= lowest_trained(step);
    const auto repeated = backward ? again(step, i, layers) : Again{};
    elements += layer.forward() + (backward ? layer.backward() : 0);
    elements += repeated.attention ? layer.rope + layer.norm : 0;
    for (const auto kind : kKinds) {
      if (rank_of(step, i, kind) == 0) {
        continue;
      }
      const double in = in_of(config, kind);
      const double out = out_of(config, kind);
      skinny += 2 * in + out;  // x for u, x for dA, dY for dU and dB
      if (!step.extended) {    // the second products read and write y and dX once more
        skinny += 2 * out + 2 * in + (is_again(repeated, kind) ? 2 * out : 0);
      }
      skinny += step.dropout ? 4 * in + 2 * in : 0;  // masked copies for u and dA, and dX added under the mask
    }
  }
  // Logits are read for the maximum and sum, read again, and the gradient takes their place.
  const double loss = 3 * static_cast<double>(step.trained_rows) * static_cast<double>(config.vocab_size);
  bytes.elementwise = (m * elements + loss) * size;
  bytes.lora = m * skinny * size;
  if (shape.weights.quantize) {
    const double packed = static_cast<double>(declare_weights(config,
                                                              {.quantize = true,
                                                               .block_size = shape.weights.block_size,
                                                               .double_quant = shape.weights.double_quant,
                                                               .element_size = 0},
                                                              step)
                                                  .bytes);
    double linears = 0;
    for (const auto kind : kKinds) {
      linears += static_cast<double>(config.num_layers) * in_of(config, kind) * out_of(config, kind);
    }
    bytes.dequantise = 2 * (packed + linears * size);
  }
  const auto wide = static_cast<double>(step.wide_size);
  // The norm reads the gradient; the update reads four and writes four; a narrower copy is written beside them.
  bytes.optimizer = static_cast<double>(shape.parameters) * (9 * wide + (size < wide ? size : 0));
  if (!step.saved.empty() && step.saved.front() == SavedActivations::kOffload) {
    bytes.offload_out = bytes.offload_in =
        m * hidden * size * std::max(0.0, static_cast<double>(layers) - 2);  // two stay
  }
  return bytes;
}

}  // namespace phi3tune::plan
