#include "phi3tune/model/phi3_model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base_weights.h"
#include "network.h"
#include "phi3tune/core/error.h"
#include "phi3tune/ops/backend.h"

namespace phi3tune::model {

struct Phi3Model::Impl {
  Network network;
  Impl(const phi3::ModelFolder& folder, const Phi3Options& options, std::shared_ptr<Arena> arena)
      : network(folder, options, std::move(arena)) {}

  // Sums of one pass, read at once.
  template <typename Pass>
  LossSums read(const TokenBatch& batch, const Pass& pass) {
    const auto& memory = ops::backend().memory;
    const auto block = memory.allocate(2 * sizeof(double));
    const auto sums = view(block, 0, at::kDouble, 2);
    std::array<double, 2> values{};
    memory.upload(sums, values.data());
    pass(sums);
    memory.download(values.data(), sums);
    return {values[0], batch.weights.sum().item<double>(), batch.targets.numel(), static_cast<int64_t>(values[1])};
  }
};

plan::StepShape step_shape(plan::StepShape shape, int64_t tokens, int64_t trained_rows, int64_t documents) {
  shape.tokens = tokens;
  shape.trained_rows = trained_rows;
  shape.documents = documents;
  return shape;
}

Phi3Model::Phi3Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Phi3Model::Phi3Model(Phi3Model&&) noexcept = default;
Phi3Model& Phi3Model::operator=(Phi3Model&&) noexcept = default;
Phi3Model::~Phi3Model() = default;

Phi3Model Phi3Model::load(const phi3::ModelFolder& folder, const Phi3Options& options, std::shared_ptr<Arena> arena) {
  const at::NoGradGuard no_grad;
  return Phi3Model(std::make_unique<Impl>(folder, options, std::move(arena)));
}

void Phi3Model::attach(LoraAdapters* adapters) {
  const at::NoGradGuard no_grad;
  impl_->network.attach(adapters);
}

void Phi3Model::adapter_changed() { impl_->network.adapter_changed(); }

void Phi3Model::forward_backward(const TokenBatch& batch, double gradient_scale, uint64_t step,
                                 const at::Tensor& sums) {
  const at::NoGradGuard no_grad;
  require(impl_->network.adapters() != nullptr, "adapters are attached before training");
  auto pass = impl_->network.begin(batch, plan::Purpose::kTrain, step);
  impl_->network.forward(pass);
  if (batch.target_rows.numel() == 0) {
    return;
  }
  impl_->network.head(pass, sums, gradient_scale, /*gradient=*/true);
  impl_->network.backward(pass);
}

void Phi3Model::evaluate(const TokenBatch& batch, const at::Tensor& sums) {
  const at::NoGradGuard no_grad;
  auto pass = impl_->network.begin(batch, plan::Purpose::kEvaluate, 0);
  impl_->network.forward(pass);
  impl_->network.head(pass, sums, 0.0, /*gradient=*/false);
}

LossSums Phi3Model::forward_backward(const TokenBatch& batch, double gradient_scale, uint64_t step) {
  return impl_->read(batch, [&](const at::Tensor& sums) { forward_backward(batch, gradient_scale, step, sums); });
}

LossSums Phi3Model::evaluate(const TokenBatch& batch) {
  return impl_->read(batch, [&](const at::Tensor& sums) { evaluate(batch, sums); });
}

at::Tensor Phi3Model::logits(const TokenBatch& batch) {
  const at::NoGradGuard no_grad;
  auto pass = impl_->network.begin(batch, plan::Purpose::kEvaluate, 0);
  impl_->network.forward(pass);
  return impl_->network.all_logits(pass);
}

const phi3::ModelConfig& Phi3Model::config() const noexcept { return impl_->network.config(); }
at::ScalarType Phi3Model::compute_dtype() const noexcept { return impl_->network.compute_dtype(); }
at::ScalarType Phi3Model::wide_dtype() const noexcept {
  return compute_dtype() == at::kDouble ? at::kDouble : at::kFloat;
}
uint64_t Phi3Model::weight_bytes() const noexcept { return impl_->network.weights().bytes(); }
int64_t Phi3Model::dequantisations() const noexcept { return impl_->network.weights().dequantisations(); }
Network& Phi3Model::network() noexcept { return impl_->network; }
Arena& Phi3Model::arena() noexcept { return impl_->network.arena(); }

}  // namespace phi3tune::model
