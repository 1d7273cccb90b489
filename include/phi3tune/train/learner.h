// What the loop trains, as the loop sees it: losses, flat parameters and their gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "phi3tune/model/arena.h"
#include "phi3tune/model/batch.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/train/optimizer.h"

namespace phi3tune::train {

class Learner {
 public:
  virtual ~Learner() = default;
  // Gradients of gradient_scale * weighted loss are added to gradients(); sums (float64 [2], the back end's memory)
  // gets the weighted loss and the count of rows whose largest logit is the target added. `step` keys the dropout.
  virtual void forward_backward(const model::TokenBatch& batch, double gradient_scale, uint64_t step,
                                const at::Tensor& sums) = 0;
  // The same sums without gradients or dropout.
  virtual void evaluate(const model::TokenBatch& batch, const at::Tensor& sums) = 0;
  virtual at::ScalarType wide_dtype() const = 0;  // of the batches' weights
  virtual at::Tensor parameters() = 0;            // [n], written by the optimizer
  virtual at::Tensor gradients() = 0;             // [n]
  // [n] in the compute dtype, written by the optimizer; undefined: none.
  virtual at::Tensor compute_copy() = 0;
  // The parameters' shares of the learning rate, from the first to the last, as LoRA+ gives them: `ratio` for B, one
  // for A. Empty: one for all.
  virtual std::vector<RateRun> rates(double ratio);
  virtual model::Arena& arena() = 0;  // where the optimizer's and the loop's memory comes from
  virtual void zero_gradients() = 0;
  virtual void parameters_changed() = 0;
};

// Low-rank adapters on a frozen Phi-3. Attaches the adapters; both must outlive it.
class AdapterLearner final : public Learner {
 public:
  AdapterLearner(model::Phi3Model& model, model::LoraAdapters& adapters);
  void forward_backward(const model::TokenBatch& batch, double gradient_scale, uint64_t step,
                        const at::Tensor& sums) override;
  void evaluate(const model::TokenBatch& batch, const at::Tensor& sums) override;
  at::ScalarType wide_dtype() const override;
  at::Tensor parameters() override;
  at::Tensor gradients() override;
  at::Tensor compute_copy() override;
  std::vector<RateRun> rates(double ratio) override;
  model::Arena& arena() override;
  void zero_gradients() override;
  void parameters_changed() override;

 private:
  model::Phi3Model& model_;
  model::LoraAdapters& adapters_;
};

}  // namespace phi3tune::train
