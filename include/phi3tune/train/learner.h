// What the loop trains, as the loop sees it: losses, flat parameters and their gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "phi3tune/model/batch.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/ops/ops.h"

namespace phi3tune::train {

class Learner {
 public:
  virtual ~Learner() = default;
  // Loss sums of the batch; gradients of gradient_scale * weighted loss are added to gradients(). `step` keys the
  // dropout.
  virtual ops::LossSums forward_backward(const model::TokenBatch& batch, double gradient_scale, uint64_t step) = 0;
  // Loss sums without gradients or dropout.
  virtual ops::LossSums evaluate(const model::TokenBatch& batch) = 0;
  virtual at::ScalarType wide_dtype() const = 0;  // of the batches' weights
  virtual at::Tensor parameters() = 0;            // [n], written by the optimizer
  virtual at::Tensor gradients() = 0;             // [n]
  virtual void zero_gradients() = 0;
  virtual void parameters_changed() = 0;
};

// Low-rank adapters on a frozen Phi-3. Attaches the adapters; both must outlive it.
class AdapterLearner final : public Learner {
 public:
  AdapterLearner(model::Phi3Model& model, model::LoraAdapters& adapters);
  ops::LossSums forward_backward(const model::TokenBatch& batch, double gradient_scale, uint64_t step) override;
  ops::LossSums evaluate(const model::TokenBatch& batch) override;
  at::ScalarType wide_dtype() const override;
  at::Tensor parameters() override;
  at::Tensor gradients() override;
  void zero_gradients() override;
  void parameters_changed() override;

 private:
  model::Phi3Model& model_;
  model::LoraAdapters& adapters_;
};

}  // namespace phi3tune::train
