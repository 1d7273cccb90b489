#include "phi3tune/model/phi3_model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base_weights.h"
#include "phi3tune/core/error.h"
#include "phi3tune/plan/step_buffers.h"
#include "rotary_table.h"
#include "step_tensors.h"

namespace phi3tune::model {

using phi3::LinearKind;

struct Phi3Model::Impl {
  phi3::ModelConfig config;
  Phi3Options options;
  BaseWeights weights;
  RotaryTable rotary;
  LoraAdapters* adapters = nullptr;
  Arena arena;

  Impl(const phi3::ModelFolder& folder, const Phi3Options& wanted)
      : config(folder.config()),
        options(wanted),
        weights(folder, wanted),
        rotary(folder.config(), wanted.compute_dtype) {}

  // What one pass works on.
  struct Pass {
    const TokenBatch& batch;
    StepTensors tensors;
    bool training;
    uint64_t step;
    ops::Documents documents() const { return {batch.cu_seqlens}; }
  };

  ops::HeadShape heads() const { return {config.num_heads, config.num_kv_heads, config.head_dim, config.rotary_dim}; }
  int64_t window() const { return config.sliding_window.value_or(0); }

  Pass begin(const TokenBatch& batch, plan::Purpose purpose, uint64_t step);
  void forward(Pass& pass);
  void attention_half(Pass& pass, int64_t layer);
  void mlp_half(Pass& pass, int64_t layer);
  void backward(Pass& pass);
  void mlp_backward(Pass& pass, int64_t layer);
  void attention_backward(Pass& pass, int64_t layer);

  void adapted_linear(Pass& pass, int64_t layer, LinearKind kind, const at::Tensor& y, const at::Tensor& x);
  void adapted_linear_backward(Pass& pass, int64_t layer, LinearKind kind, const at::Tensor& dx, const at::Tensor& dy,
                               const at::Tensor& x);

  ops::LossSums head(Pass& pass, double gradient_scale, bool gradient);

 private:
  ops::DropoutKey dropout_key(const Pass& pass, int64_t layer, LinearKind kind) const {
    return {pass.training ? options.dropout : 0.0, options.dropout_seed,        pass.step,
            static_cast<uint32_t>(layer),          static_cast<uint32_t>(kind), pass.batch.sample_ids};
  }
  // The LoRA branch's input: x, or x with its elements dropped, in the buffer kept for that.
  at::Tensor branch_input(Pass& pass, const ops::DropoutKey& key, const at::Tensor& x) const {
    if (key.p == 0.0) {
      return x;
    }
    const auto dropped = pass.tensors.dropped(x.size(1));
    ops::dropout(dropped, x, pass.documents(), key);
    return dropped;
  }
};

Phi3Model::Impl::Pass Phi3Model::Impl::begin(const TokenBatch& batch, plan::Purpose purpose, uint64_t step) {
  plan::StepShape shape;
  shape.tokens = batch.input_ids.numel();
  shape.trained_rows = batch.target_rows.numel();
  shape.head_chunk = options.head_chunk;
  shape.element_size = c10::elementSize(options.compute_dtype);
  shape.wide_size = options.compute_dtype == at::kDouble ? 8 : 4;
  shape.dropout = options.dropout > 0.0;
  if (adapters != nullptr) {
    shape.ranks.resize(static_cast<size_t>(config.num_layers));
    for (const auto& pair : adapters->pairs()) {
      shape.ranks[static_cast<size_t>(pair.layer)][static_cast<size_t>(pair.kind)] = pair.rank;
    }
  }
  require(!batch.cu_seqlens.empty() && batch.cu_seqlens.back() == shape.tokens,
          "cu_seqlens ends at the number of tokens");
  auto buffers = plan::declare_step_buffers(config, shape, purpose);
  StepTensors tensors(std::move(buffers), arena, options.compute_dtype);
  Pass pass{batch, std::move(tensors), purpose != plan::Purpose::kEvaluate, step};
  rotary.fill(pass.tensors.cosine(), pass.tensors.sine(), batch.cu_seqlens);
  return pass;
}

void Phi3Model::Impl::adapted_linear(Pass& pass, int64_t layer, LinearKind kind, const at::Tensor& y,
                                     const at::Tensor& x) {
  ops::linear(y, x, weights.linear(layer, kind));
  const auto* pair = adapters == nullptr ? nullptr : adapters->find(layer, kind);
  if (pair != nullptr) {
    ops::lora_forward(y, pass.tensors.lora_product(layer, kind), branch_input(pass, dropout_key(pass, layer, kind), x),
                      pair->compute_a, pair->compute_b, pair->scale);
  }
}

// dx undefined: nothing trained lies below, only the adapter's own gradients are wanted.
void Phi3Model::Impl::adapted_linear_backward(Pass& pass, int64_t layer, LinearKind kind, const at::Tensor& dx,
                                              const at::Tensor& dy, const at::Tensor& x) {
  const auto* pair = adapters->find(layer, kind);
  const auto key = dropout_key(pass, layer, kind);
  if (dx.defined()) {
    ops::linear_input_gradient(dx, dy, weights.linear(layer, kind), /*accumulate=*/false);
  }
  if (pair == nullptr) {
    return;
  }
  const auto du = pass.tensors.d_lora(pair->rank);
  ops::lora_weight_gradients(pair->grad_a, pair->grad_b, du, dy, branch_input(pass, key, x),
                             pass.tensors.lora_product(layer, kind), pair->compute_b, pair->scale);
  if (dx.defined()) {
    ops::lora_input_gradient(dx, du, pair->compute_a, pass.documents(), key);
  }
}

void Phi3Model::Impl::attention_half(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  ops::rms_norm(t.normed(), t.rstd_attention(layer), t.residual(layer), weights.attention_norm(layer),
                config.rms_norm_eps);
  adapted_linear(pass, layer, LinearKind::kQkv, t.qkv(layer), t.normed());
  ops::rope(t.qkv(layer), t.cosine(), t.sine(), heads(), /*inverse=*/false);
  ops::attention(t.attention(layer), t.lse(layer), t.qkv(layer), pass.documents(), heads(), window());
  adapted_linear(pass, layer, LinearKind::kO, t.delta(), t.attention(layer));
  ops::convert(t.middle(layer), t.residual(layer));
  ops::add_rms_norm(t.normed(), t.rstd_mlp(layer), t.middle(layer), t.delta(), weights.mlp_norm(layer),
                    config.rms_norm_eps);
  adapted_linear(pass, layer, LinearKind::kGateUp, t.gate_up(layer), t.normed());
}

void Phi3Model::Impl::mlp_half(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  ops::swiglu(t.hidden(), t.gate_up(layer));
  adapted_linear(pass, layer, LinearKind::kDown, t.delta(), t.hidden());
  ops::convert(t.residual(layer + 1), t.middle(layer));
  ops::add(t.residual(layer + 1), t.delta());
}

void Phi3Model::Impl::forward(Pass& pass) {
  ops::embed(pass.tensors.residual(0), pass.batch.input_ids, weights.embedding());
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    attention_half(pass, layer);
    mlp_half(pass, layer);
  }
}

void Phi3Model::Impl::mlp_backward(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  ops::swiglu(t.hidden(), t.gate_up(layer));
  adapted_linear_backward(pass, layer, LinearKind::kDown, t.d_hidden(), t.d_residual(), t.hidden());
  const auto d_gate_up = t.gate_up(layer);  // its values are not needed any more
  ops::swiglu_backward(d_gate_up, t.d_hidden(), t.gate_up(layer));
  ops::rms_norm(t.normed(), t.rstd_mlp(layer), t.middle(layer), weights.mlp_norm(layer), config.rms_norm_eps);
  adapted_linear_backward(pass, layer, LinearKind::kGateUp, t.d_normed(), d_gate_up, t.normed());
  ops::rms_norm_backward(t.d_residual(), t.d_normed(), t.middle(layer), t.rstd_mlp(layer), weights.mlp_norm(layer));
}

void Phi3Model::Impl::attention_backward(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  // The embedding is frozen: below the first layer's qkv nothing is trained.
  const bool below = layer > 0;
  adapted_linear_backward(pass, layer, LinearKind::kO, t.d_attention(), t.d_residual(), t.attention(layer));
  ops::attention_backward(t.d_qkv(), t.d_attention(), t.attention(layer), t.lse(layer), t.qkv(layer), pass.documents(),
                          heads(), window());
  ops::rope(t.d_qkv(), t.cosine(), t.sine(), heads(), /*inverse=*/true);
  ops::rms_norm(t.normed(), t.rstd_attention(layer), t.residual(layer), weights.attention_norm(layer),
                config.rms_norm_eps);
  adapted_linear_backward(pass, layer, LinearKind::kQkv, below ? t.d_normed() : at::Tensor(), t.d_qkv(), t.normed());
  if (below) {
    ops::rms_norm_backward(t.d_residual(), t.d_normed(), t.residual(layer), t.rstd_attention(layer),
                           weights.attention_norm(layer));
  }
}

void Phi3Model::Impl::backward(Pass& pass) {
  for (int64_t layer = config.num_layers - 1; layer >= 0; --layer) {
    if (!options.save_activations && layer + 1 < config.num_layers) {
      // The buffers still hold the layer above. All but down_proj again: the layer's output is not needed.
      attention_half(pass, layer);
    }
    mlp_backward(pass, layer);
    attention_backward(pass, layer);
  }
}

ops::LossSums Phi3Model::Impl::head(Pass& pass, double gradient_scale, bool gradient) {
  auto& t = pass.tensors;
  const int64_t rows = pass.batch.target_rows.numel();
  ops::gather_rows(t.head_input(), t.residual(config.num_layers), pass.batch.target_rows);
  ops::rms_norm(t.head_normed(), t.head_rstd(), t.head_input(), weights.final_norm(), config.rms_norm_eps);
  ops::LossSums sums;
  for (int64_t begin = 0; begin < rows; begin += options.head_chunk) {
    const int64_t count = std::min(options.head_chunk, rows - begin);
    const auto logits = t.logits().narrow(0, 0, count);
    const auto normed = t.head_normed().narrow(0, begin, count);
    ops::linear(logits, normed, weights.head());
    sums += ops::cross_entropy(logits, pass.batch.targets.narrow(0, begin, count),
                               pass.batch.weights.narrow(0, begin, count), gradient_scale, gradient);
    if (gradient) {
      // The normed rows of this chunk have served: their gradient takes their place.
      ops::linear_input_gradient(normed, logits, weights.head(), /*accumulate=*/false);
    }
  }
  if (gradient) {
    t.d_head().zero_();
    ops::rms_norm_backward(t.d_head(), t.head_normed(), t.head_input(), t.head_rstd(), weights.final_norm());
    ops::scatter_rows(t.d_residual(), t.d_head(), pass.batch.target_rows);
  }
  return sums;
}

Phi3Model::Phi3Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Phi3Model::Phi3Model(Phi3Model&&) noexcept = default;
Phi3Model& Phi3Model::operator=(Phi3Model&&) noexcept = default;
Phi3Model::~Phi3Model() = default;

Phi3Model Phi3Model::load(const phi3::ModelFolder& folder, const Phi3Options& options) {
  const at::NoGradGuard no_grad;
  return Phi3Model(std::make_unique<Impl>(folder, options));
}

void Phi3Model::attach(LoraAdapters* adapters) noexcept { impl_->adapters = adapters; }

ops::LossSums Phi3Model::forward_backward(const TokenBatch& batch, double gradient_scale, uint64_t step) {
  const at::NoGradGuard no_grad;
  require(impl_->adapters != nullptr, "adapters are attached before training");
  auto pass = impl_->begin(
      batch, impl_->options.save_activations ? plan::Purpose::kTrainSaving : plan::Purpose::kTrainRecomputing, step);
  impl_->forward(pass);
  if (batch.target_rows.numel() == 0) {
    return {};
  }
  const auto sums = impl_->head(pass, gradient_scale, /*gradient=*/true);
  impl_->backward(pass);
  return sums;
}

ops::LossSums Phi3Model::evaluate(const TokenBatch& batch) {
  const at::NoGradGuard no_grad;
  auto pass = impl_->begin(batch, plan::Purpose::kEvaluate, 0);
  impl_->forward(pass);
  return impl_->head(pass, 0.0, /*gradient=*/false);
}

at::Tensor Phi3Model::logits(const TokenBatch& batch) {
  const at::NoGradGuard no_grad;
  auto pass = impl_->begin(batch, plan::Purpose::kEvaluate, 0);
  impl_->forward(pass);
  const auto last = pass.tensors.residual(impl_->config.num_layers);
  const auto normed = at::empty_like(last);
  const auto rstd = at::empty({last.size(0)}, at::dtype(wide_dtype()));
  ops::rms_norm(normed, rstd, last, impl_->weights.final_norm(), impl_->config.rms_norm_eps);
  const auto out = at::empty({last.size(0), impl_->config.vocab_size}, at::dtype(compute_dtype()));
  ops::linear(out, normed, impl_->weights.head());
  return out;
}

const phi3::ModelConfig& Phi3Model::config() const noexcept { return impl_->config; }
at::ScalarType Phi3Model::compute_dtype() const noexcept { return impl_->options.compute_dtype; }
at::ScalarType Phi3Model::wide_dtype() const noexcept {
  return impl_->options.compute_dtype == at::kDouble ? at::kDouble : at::kFloat;
}
uint64_t Phi3Model::weight_bytes() const noexcept { return impl_->weights.bytes(); }

}  // namespace phi3tune::model
