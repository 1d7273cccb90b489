#include "phi3tune/train/learner.h"

#include <ATen/ATen.h>

namespace phi3tune::train {

std::vector<RateRun> Learner::rates(double /*ratio*/) { return {}; }

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

// peft.optimizers.create_loraplus_optimizer.
std::vector<RateRun> AdapterLearner::rates(double ratio) {
  std::vector<RateRun> rates;
  for (const auto& run : adapters_.runs()) {
    const double factor = run.kind == model::ParameterKind::kB ? ratio : 1.0;
    if (!rates.empty() && rates.back().factor == factor) {
      rates.back().count += run.count;
    } else {
      rates.push_back({run.count, factor});
    }
  }
  return rates;
}

model::Arena& AdapterLearner::arena() { return model_.arena(); }
void AdapterLearner::zero_gradients() { adapters_.zero_gradients(); }
void AdapterLearner::parameters_changed() { model_.adapter_changed(); }

}  // namespace phi3tune::train
