#include "phi3tune/train/learner.h"

#include <ATen/ATen.h>

namespace phi3tune::train {

AdapterLearner::AdapterLearner(model::Phi3Model& model, model::LoraAdapters& adapters)
    : model_(model), adapters_(adapters) {
  model_.attach(&adapters_);
}

ops::LossSums AdapterLearner::forward_backward(const model::TokenBatch& batch, double gradient_scale, uint64_t step) {
  return model_.forward_backward(batch, gradient_scale, step);
}
ops::LossSums AdapterLearner::evaluate(const model::TokenBatch& batch) { return model_.evaluate(batch); }
at::ScalarType AdapterLearner::wide_dtype() const { return model_.wide_dtype(); }
at::Tensor AdapterLearner::parameters() { return adapters_.parameters(); }
at::Tensor AdapterLearner::gradients() { return adapters_.gradients(); }
void AdapterLearner::zero_gradients() { adapters_.zero_gradients(); }
void AdapterLearner::parameters_changed() { adapters_.refresh_compute_copies(); }

}  // namespace phi3tune::train
