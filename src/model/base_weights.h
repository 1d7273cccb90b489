// The frozen base as it is held: mapped where the file's dtype is the compute dtype and the CPU computes, converted
// otherwise, or NF4; in the arena where the back end has memory of its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "phi3tune/model/arena.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/ops/ops.h"
#include "phi3tune/phi3/model_folder.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::model {

class BaseWeights {
 public:
  // Polls the stop flag between tensors. Throws ModelError, Interrupted.
  BaseWeights(const phi3::ModelFolder& folder, const Phi3Options& options, std::shared_ptr<Arena> arena);

  const at::Tensor& embedding() const noexcept { return embedding_; }  // [V, D]
  const ops::LinearWeight& head() const noexcept { return head_; }     // [V, D]; the embedding itself where tied
  const at::Tensor& final_norm() const noexcept { return final_norm_; }
  const at::Tensor& attention_norm(int64_t layer) const { return layers_[static_cast<size_t>(layer)].attention_norm; }
  const at::Tensor& mlp_norm(int64_t layer) const { return layers_[static_cast<size_t>(layer)].mlp_norm; }
  // [O, K] in the compute dtype. An NF4 weight is dequantised into a scratch that holds one layer: asking again for the
  // same layer costs nothing, and asking for another layer overwrites it. `pair`: the adapter beside it, or null.
  ops::LinearWeight linear(int64_t layer, phi3::LinearKind kind, const LoraPair* pair);
  // The NF4 form where the weight is held in it, else null.
  const quant::Nf4Tensor* quantized(int64_t layer, phi3::LinearKind kind) const noexcept {
    const auto& held = layers_[static_cast<size_t>(layer)].linears[static_cast<size_t>(kind)].quantized;
    return held ? &*held : nullptr;
  }
  // After the adapter changed: what of it stands beside the weights is written again.
  void adapter_changed(const LoraAdapters& adapters);
  // Bytes as held; scratch not counted.
  uint64_t bytes() const noexcept { return bytes_; }
  // Dequantisations so far.
  int64_t dequantisations() const noexcept { return dequantisations_; }

 private:
  struct Linear {
    ops::LinearWeight dense;
    std::optional<quant::Nf4Tensor> quantized;
    at::Tensor block;  // the quantised bytes in the arena
  };
  struct Layer {
    at::Tensor attention_norm, mlp_norm;
    std::array<Linear, phi3::kLinearKinds> linears;
  };
  struct Scratch {
    ops::LinearWeight weight;
    int64_t layer = -1;
  };
  // The pair whose start this linear is held without; null: none.
  const LoraPair* principal_of(int64_t layer, phi3::LinearKind kind) const;
  at::Tensor load_mapped(const phi3::LocatedTensor& located, const LoraPair* principal);
  // `place`: where in the arena, if weights are held there.
  ops::LinearWeight load_dense(const phi3::LocatedTensor& located, const plan::DenseBuffer& place,
                               const LoraPair* principal = nullptr);
  at::Tensor load_norm(const phi3::LocatedTensor& located, const plan::DenseBuffer& place);
  ops::LinearWeight place_dense(const at::Tensor& block, const plan::DenseBuffer& place) const;
  void load_quantized(const phi3::ModelFolder& folder, const std::string& name, int64_t out, int64_t in,
                      phi3::LinearKind kind, const LoraPair* principal, Linear& linear);
  bool quantize_in_place(std::span<const std::byte> bytes, phi3::LinearKind kind, Linear& linear);

  Phi3Options options_;
  std::shared_ptr<Arena> arena_;
  bool in_arena_;
  at::ScalarType dtype_;
  at::Tensor block_, scratch_block_;
  plan::WeightBuffers places_;
  plan::ScratchBuffers scratch_places_;
  at::Tensor embedding_, final_norm_;
  ops::LinearWeight head_;
  std::vector<Layer> layers_;
  std::array<Scratch, phi3::kLinearKinds> scratch_;
  uint64_t bytes_ = 0;
  int64_t dequantisations_ = 0;
};

}  // namespace phi3tune::model
