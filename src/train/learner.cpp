#include "phi3tune/train/learner.h"

#include <ATen/ATen.h>

namespace phi3tune::train {

AdapterLearner::AdapterLearner(model::Phi3Model& model, model::LoraAdapters& adapters)
    : model_(model), adapters_(adapters) {
  model_.attach(&adapters_);
}

void AdapterLearner::forward_backward(const model::TokenBatch& batch, double gradient_scale, uint64_t step,
                                      const at::Tensor& sums) {
  model_.forward_backward(batch, gradient_scale, step, sums);
}
void AdapterLearner::evaluate(const model::TokenBatch& batch, const at::Tensor& sums) { model_.evaluate(batch, sums); }
at::ScalarType AdapterLearner::wide_dtype() const { return model_.wide_dtype(); }
at::Tensor AdapterLearner::parameters() { return adapters_.parameters(); }
at::Tensor AdapterLearner::gradients() { return adapters_.gradients(); }
at::Tensor AdapterLearner::compute_copy() { return adapters_.compute_copy(); }
model::Arena& AdapterLearner::arena() { return model_.arena(); }
void AdapterLearner::zero_gradients() { adapters_.zero_gradients(); }
void AdapterLearner::parameters_changed() { model_.adapter_changed(); }

}  // namespace phi3tune::train
