// The frozen base as it is held: mapped where the file's dtype is the compute dtype, converted otherwise, or NF4.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "phi3tune/model/phi3_model.h"
#include "phi3tune/phi3/model_folder.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::model {

class BaseWeights {
 public:
  // Polls the stop flag between tensors. Throws ModelError, Interrupted.
  BaseWeights(const phi3::ModelFolder& folder, const Phi3Options& options);

  const at::Tensor& embedding() const noexcept { return embedding_; }  // [V, D]
  const at::Tensor& head() const noexcept { return head_; }            // [V, D]; the embedding itself where tied
  const at::Tensor& final_norm() const noexcept { return final_norm_; }
  const at::Tensor& attention_norm(int64_t layer) const { return layers_[static_cast<size_t>(layer)].attention_norm; }
  const at::Tensor& mlp_norm(int64_t layer) const { return layers_[static_cast<size_t>(layer)].mlp_norm; }
  // [O, K] in the compute dtype. An NF4 weight is dequantised into a scratch that holds one layer: asking again for the
  // same layer costs nothing, and asking for another layer overwrites it.
  const at::Tensor& linear(int64_t layer, phi3::LinearKind kind);
  // Bytes as held; scratch not counted.
  uint64_t bytes() const noexcept { return bytes_; }

 private:
  struct Linear {
    at::Tensor dense;
    std::optional<quant::Nf4Tensor> quantized;
  };
  struct Layer {
    at::Tensor attention_norm, mlp_norm;
    std::array<Linear, phi3::kLinearKinds> linears;
  };
  struct Scratch {
    at::Tensor weight;
    int64_t layer = -1;
  };
  at::Tensor load_dense(const phi3::LocatedTensor& located);
  quant::Nf4Tensor load_quantized(const phi3::ModelFolder& folder, const std::string& name, int64_t out, int64_t in,
                                  const quant::Nf4Options& options);

  at::ScalarType dtype_;
  at::Tensor embedding_, head_, final_norm_;
  std::vector<Layer> layers_;
  std::array<Scratch, phi3::kLinearKinds> scratch_;
  uint64_t bytes_ = 0;
};

}  // namespace phi3tune::model
