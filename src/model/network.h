// The network's passes: which op follows which, forward and backward, and what each policy computes again.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>

#include "base_weights.h"
#include "dora.h"
#include "phi3tune/model/arena.h"
#include "phi3tune/model/batch.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/ops/ops.h"
#include "rotary_table.h"
#include "step_tensors.h"

namespace phi3tune::model {

class Network {
 public:
  Network(const phi3::ModelFolder& folder, const Phi3Options& options, std::shared_ptr<Arena> arena);

  // What one pass works on.
  struct Pass {
    StepTensors tensors;
    ops::Documents documents;
    std::span<const uint64_t> sample_ids;
    int64_t trained_rows;
    bool training;
    uint64_t step;
  };

  void attach(LoraAdapters* adapters);
  void adapter_changed();
  const LoraAdapters* adapters() const noexcept { return adapters_; }

  // Cuts the arena for this batch and sends it in.
  Pass begin(const TokenBatch& batch, plan::Purpose purpose, uint64_t step);
  void forward(Pass& pass);
  // Loss of the trained rows; with `gradient`, d_residual is set.
  void head(Pass& pass, const at::Tensor& sums, double gradient_scale, bool gradient);
  void backward(Pass& pass);
  // [M, V], of every token.
  at::Tensor all_logits(Pass& pass);

  const phi3::ModelConfig& config() const noexcept { return config_; }
  at::ScalarType compute_dtype() const noexcept { return options_.compute_dtype; }
  // The trained ones where the adapters have them, else the base's.
  const at::Tensor& embedding() const;
  ops::LinearWeight head_weight() const;
  const BaseWeights& weights() const noexcept { return weights_; }
  BaseWeights& weights() noexcept { return weights_; }
  RotaryTable& rotary() noexcept { return rotary_; }
  Arena& arena() noexcept { return *arena_; }
  // With DoRA: magnitude / norm of an adapted linear's outputs, [out] wide.
  const at::Tensor& dora_factors(const LoraPair& pair);

 private:
  // Forward, in the order of a layer. Each linear's output is added to the residual by the norm that follows.
  void attention_norm(Pass& pass, int64_t layer);
  void qkv(Pass& pass, int64_t layer);
  void attention(Pass& pass, int64_t layer);
  void gate_up(Pass& pass, int64_t layer);
  void down(Pass& pass, int64_t layer);
  // Backward.
  void recompute(Pass& pass, int64_t layer);
  void mlp_backward(Pass& pass, int64_t layer);
  void attention_backward(Pass& pass, int64_t layer);

  void adapted_linear(Pass& pass, int64_t layer, phi3::LinearKind kind, const at::Tensor& y, const at::Tensor& x);
  // The gradients of a linear: of the adapter's B and of u; then of x, and of A, in either order.
  void output_gradient(Pass& pass, int64_t layer, phi3::LinearKind kind, const at::Tensor& dy);
  void input_gradient(Pass& pass, int64_t layer, phi3::LinearKind kind, const at::Tensor& dx, const at::Tensor& dy);
  void weight_gradient(Pass& pass, int64_t layer, phi3::LinearKind kind, const at::Tensor& dy, const at::Tensor& x);

  // The same with DoRA: the columns of an adapted linear are scaled.
  void dora_linear(Pass& pass, const LoraPair& pair, const at::Tensor& y, const at::Tensor& x);
  void dora_input_gradient(Pass& pass, const LoraPair& pair, const at::Tensor& dx, const at::Tensor& dy);
  void magnitude_gradient(Pass& pass, const LoraPair& pair, const at::Tensor& dy, const at::Tensor& branch);
  at::Tensor scaled_gradient(Pass& pass, const LoraPair& pair, const at::Tensor& dy);

  // Offloaded inputs of layers.
  bool offloads(const Pass& pass) const { return pass.training && offload_; }
  bool leaves(int64_t layer) const { return layer + 2 < config_.num_layers; }
  at::Tensor host_residual(const Pass& pass, int64_t layer);
  void send_out(Pass& pass, int64_t layer);
  void bring_in(Pass& pass, int64_t layer);

  const LoraPair* pair(int64_t layer, phi3::LinearKind kind) const {
    return adapters_ == nullptr ? nullptr : adapters_->find(layer, kind);
  }
  ops::DropoutKey dropout_key(const Pass& pass, int64_t layer, phi3::LinearKind kind) const;
  // The LoRA branch's input: x, or x with its elements dropped, in the buffer kept for that.
  at::Tensor branch_input(Pass& pass, const ops::DropoutKey& key, const at::Tensor& x) const;
  at::Tensor d_lora(Pass& pass, const at::Tensor& dy, const LoraPair& pair) const;
  ops::HeadShape heads() const {
    return {config_.num_heads, config_.num_kv_heads, config_.head_dim, config_.rotary_dim};
  }
  int64_t window() const { return config_.sliding_window.value_or(0); }

  phi3::ModelConfig config_;
  Phi3Options options_;
  std::shared_ptr<Arena> arena_;
  plan::StepShape shape_;
  bool offload_;
  BaseWeights weights_;
  RotaryTable rotary_;
  LoraAdapters* adapters_ = nullptr;
  int64_t lowest_ = 0;  // trained layer: the backward ends there
  const WholeWeight* trained_embedding_ = nullptr;
  const WholeWeight* trained_head_ = nullptr;
  DoraFactors dora_;
  // The layer whose values lie in the place that layers share.
  struct Holders {
    int64_t qkv = -1, attention = -1, gate_up = -1;
  } holders_;
  at::Tensor cosine_, sine_;  // of a batch, on their way in
};

}  // namespace phi3tune::model
