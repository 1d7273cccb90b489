// The Phi-3 network with a frozen base: explicit forward and backward, no autograd.
//
// Each layer saves its input, the rotated qkv, the attention's output and log-sum-exp, the residual after attention and
// gate_up; norms and SwiGLU are computed again in the backward. With SavedActivations::kBlock only the layer's input is
// saved and the rest is recomputed, with equal bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "phi3tune/config/options.h"
#include "phi3tune/model/batch.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/ops/ops.h"
#include "phi3tune/phi3/model_folder.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::model {

struct Phi3Options {
  at::ScalarType compute_dtype = at::kFloat;  // float32, bfloat16; float64 for tests
  bool quantize = false;                      // NF4 the four linears of every layer on the way in
  quant::Nf4Options nf4;
  bool save_activations = true;  // false: recompute each block in the backward
  double dropout = 0.0;          // of the LoRA branch's input, in training
  uint64_t dropout_seed = 0;
  int64_t head_chunk = 1024;  // trained rows per lm_head chunk
};

class Phi3Model {
 public:
  // Maps or quantises the weights, tensor by tensor. The folder must outlive the model (16-bit weights are used where
  // they lie). Throws ModelError.
  static Phi3Model load(const phi3::ModelFolder& folder, const Phi3Options& options);
  Phi3Model(Phi3Model&&) noexcept;
  Phi3Model& operator=(Phi3Model&&) noexcept;
  ~Phi3Model();

  // The adapters that train; null: the base alone. They must outlive the model's use.
  void attach(LoraAdapters* adapters) noexcept;

  // Loss sums of the batch; gradients of gradient_scale * weighted loss are added to the adapters' gradients. `step`
  // keys the dropout.
  ops::LossSums forward_backward(const TokenBatch& batch, double gradient_scale, uint64_t step);
  // Loss sums without gradients or dropout.
  ops::LossSums evaluate(const TokenBatch& batch);
  // Logits of every token, [M, V] in the compute dtype, without dropout.
  at::Tensor logits(const TokenBatch& batch);

  const phi3::ModelConfig& config() const noexcept;
  at::ScalarType compute_dtype() const noexcept;
  at::ScalarType wide_dtype() const noexcept;  // float32, or float64
  uint64_t weight_bytes() const noexcept;      // of the base as held (NF4 counted as stored)

 private:
  struct Impl;
  explicit Phi3Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace phi3tune::model
