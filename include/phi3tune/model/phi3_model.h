// The Phi-3 network with a frozen base: explicit forward and backward, no autograd.
//
// Each layer keeps its input, and as much of the rest as its policy says: the rotated qkv, the attention's output and
// log-sum-exp with the residual after it, gate_up. Norms and SwiGLU are always computed again in the backward, and so
// is what a policy does not keep, with equal bits. Offloaded inputs wait in the host's memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/model/arena.h"
#include "phi3tune/model/batch.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/phi3/model_folder.h"
#include "phi3tune/plan/run_plan.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::model {

class Decoder;
class Network;

struct Phi3Options {
  at::ScalarType compute_dtype = at::kFloat;  // float32, bfloat16; float64 for tests
  bool quantize = false;                      // NF4 the four linears of every layer on the way in
  quant::Nf4Options nf4;
  // What the layers keep for the backward: one for each, or one for all; empty: everything.
  std::vector<config::SavedActivations> saved;
  double dropout = 0.0;       // of the LoRA branch's input, in training
  uint64_t dropout_seed = 0;  // of dropout and noise
  double noise_alpha = 0.0;   // NEFTune's, on the embeddings in training; 0: none
  int64_t head_chunk = 1024;  // trained rows per lm_head chunk
  // Of the adapters that will be attached, so that weights leave room for them where the back end multiplies both in
  // one product. Empty: no room.
  Ranks ranks;
  // Adapters that started as the base's principal part (PiSSA): the base is held without those starts. Null: as it is.
  const LoraAdapters* principal = nullptr;
};

// What the plan needs to know about weights that are loaded with these options.
plan::WeightShape weight_shape(const Phi3Options& options, const phi3::ModelFolder& folder);
// Of what does not depend on the batch: dtypes, ranks, room in the rows.
plan::StepShape step_shape(const Phi3Options& options, const phi3::ModelConfig& config);
// A batch's sizes put into it.
plan::StepShape step_shape(plan::StepShape shape, int64_t tokens, int64_t trained_rows, int64_t documents);

class Phi3Model {
 public:
  // Maps or quantises the weights, tensor by tensor. The folder must outlive the model (16-bit weights are used where
  // they lie). Throws ModelError.
  static Phi3Model load(const phi3::ModelFolder& folder, const Phi3Options& options,
                        std::shared_ptr<Arena> arena = std::make_shared<Arena>());
  Phi3Model(Phi3Model&&) noexcept;
  Phi3Model& operator=(Phi3Model&&) noexcept;
  ~Phi3Model();

  // The adapters that train; null: the base alone. They must outlive the model's use.
  void attach(LoraAdapters* adapters);
  // After the adapters' parameters changed.
  void adapter_changed();

  // Gradients of gradient_scale * weighted loss are added to the adapters' gradients; sums, float64 [2] in the back
  // end's memory, gets the weighted loss and the count of rows whose largest logit is the target added. `step` keys the
  // dropout.
  void forward_backward(const TokenBatch& batch, double gradient_scale, uint64_t step, const at::Tensor& sums);
  // The same sums without gradients or dropout.
  void evaluate(const TokenBatch& batch, const at::Tensor& sums);
  // For a single pass: waits, and gives the numbers.
  LossSums forward_backward(const TokenBatch& batch, double gradient_scale, uint64_t step);
  LossSums evaluate(const TokenBatch& batch);
  // Logits of every token, [M, V] in the compute dtype, without dropout.
  at::Tensor logits(const TokenBatch& batch);

  const phi3::ModelConfig& config() const noexcept;
  at::ScalarType compute_dtype() const noexcept;
  at::ScalarType wide_dtype() const noexcept;  // float32, or float64
  uint64_t weight_bytes() const noexcept;      // of the base as held (NF4 counted as stored)
  Arena& arena() noexcept;
  int64_t dequantisations() const noexcept;  // of weights, so far

 private:
  friend class Decoder;
  struct Impl;
  Network& network() noexcept;
  explicit Phi3Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace phi3tune::model
