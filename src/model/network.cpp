#include "network.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/magnitude.h"

namespace phi3tune::model {

using phi3::LinearKind;
using plan::SavedActivations;

namespace {

ops::LowRank low_rank(const LoraPair& pair) { return {pair.compute_a, pair.compute_b, pair.scale}; }

}  // namespace

Network::Network(const phi3::ModelFolder& folder, const Phi3Options& options, std::shared_ptr<Arena> arena)
    : config_(folder.config()),
      options_(options),
      arena_(std::move(arena)),
      shape_(step_shape(options, folder.config())),
      offload_(shape_.saved.front() == SavedActivations::kOffload),
      weights_(folder, options, arena_),
      rotary_(folder.config(), options.compute_dtype) {}

void Network::attach(LoraAdapters* adapters) {
  adapters_ = adapters;
  trained_embedding_ = adapters == nullptr ? nullptr : adapters->find(phi3::WholeModule::kEmbedding);
  trained_head_ = adapters == nullptr ? nullptr : adapters->find(phi3::WholeModule::kHead);
  lowest_ = 0;
  if (adapters != nullptr && !adapters->pairs().empty() && trained_embedding_ == nullptr && !offload_) {
    lowest_ = adapters->pairs().front().layer;  // offloaded inputs come back one by one, down to the first
  }
  shape_.ranks.clear();
  shape_.magnitudes = 0;
  if (adapters != nullptr) {
    shape_.ranks = ranks_of(config_, adapters->config());
    require(!shape_.extended || options_.ranks == shape_.ranks, "weights were loaded with room for these adapters");
    shape_.magnitudes = adapters->magnitudes();
    weights_.adapter_changed(*adapters);
    dora_.attach(*adapters);
    if (adapters->wants_magnitudes()) {
      for (const auto& pair : adapters->pairs()) {
        dora_.start(pair, weights_.linear(pair.layer, pair.kind, &pair).matrix);
      }
      adapters->magnitudes_given();
      adapters->refresh_compute_copies();
    }
  }
}

void Network::adapter_changed() {
  weights_.adapter_changed(*adapters_);
  dora_.parameters_changed();
}

const at::Tensor& Network::dora_factors(const LoraPair& pair) {
  return dora_.known(pair) ? pair.factor : dora_.of(pair, weights_.linear(pair.layer, pair.kind, &pair).matrix);
}

const at::Tensor& Network::embedding() const {
  return trained_embedding_ == nullptr ? weights_.embedding() : trained_embedding_->compute;
}

ops::LinearWeight Network::head_weight() const {
  return trained_head_ == nullptr ? weights_.head() : ops::LinearWeight{trained_head_->compute};
}

Network::Pass Network::begin(const TokenBatch& batch, plan::Purpose purpose, uint64_t step) {
  const auto& memory = ops::backend().memory;
  const int64_t tokens = batch.input_ids.numel();
  const auto documents = static_cast<int64_t>(batch.sample_ids.size());
  require(static_cast<int64_t>(batch.cu_seqlens.size()) == documents + 1 && batch.cu_seqlens.back() == tokens,
          "cu_seqlens ends at the number of tokens, and every document has a sample id");
  auto buffers =
      plan::declare_step_buffers(config_, step_shape(shape_, tokens, batch.target_rows.numel(), documents), purpose);
  Pass pass{StepTensors(std::move(buffers), *arena_, options_.compute_dtype),
            {batch.cu_seqlens},
            batch.sample_ids,
            batch.target_rows.numel(),
            purpose == plan::Purpose::kTrain,
            step};
  auto& t = pass.tensors;
  memory.upload(t.input_ids(), batch.input_ids.data_ptr());
  memory.upload(t.target_rows(), batch.target_rows.data_ptr());
  memory.upload(t.targets(), batch.targets.data_ptr());
  memory.upload(t.weights(), batch.weights.data_ptr());
  memory.upload(t.cu_seqlens(), batch.cu_seqlens.data());
  memory.upload(t.sample_ids(), batch.sample_ids.data());
  pass.documents.on_device = t.cu_seqlens();
  const int64_t half = config_.rotary_dim / 2;
  if (!cosine_.defined() || cosine_.size(0) < tokens) {
    const auto wide = options_.compute_dtype == at::kDouble ? at::kDouble : at::kFloat;
    cosine_ = at::empty({tokens, half}, at::dtype(wide));
    sine_ = at::empty({tokens, half}, at::dtype(wide));
  }
  rotary_.fill(cosine_, sine_, batch.cu_seqlens);
  memory.upload(t.cosine(), cosine_.data_ptr());
  memory.upload(t.sine(), sine_.data_ptr());
  return pass;
}

ops::DropoutKey Network::dropout_key(const Pass& pass, int64_t layer, LinearKind kind) const {
  return {pass.training ? options_.dropout : 0.0,
          options_.dropout_seed,
          pass.step,
          static_cast<uint32_t>(layer),
          static_cast<uint32_t>(kind),
          pass.sample_ids,
          pass.tensors.sample_ids()};
}

at::Tensor Network::branch_input(Pass& pass, const ops::DropoutKey& key, const at::Tensor& x) const {
  if (key.p == 0.0) {
    return x;
  }
  auto dropped = pass.tensors.dropped(x.size(1));
  ops::dropout(dropped, x, pass.documents, key);
  return dropped;
}

at::Tensor Network::d_lora(Pass& pass, const at::Tensor& dy, const LoraPair& pair) const {
  return pass.tensors.d_lora(dy, pair.rank, shape_.extended);
}

// ---- forward ----

void Network::adapted_linear(Pass& pass, int64_t layer, LinearKind kind, const at::Tensor& y, const at::Tensor& x) {
  const auto* adapter = pair(layer, kind);
  const auto weight = weights_.linear(layer, kind, adapter);
  if (adapter == nullptr) {
    ops::linear(y, x, weight);
    return;
  }
  if (adapter->magnitude.defined()) {
    dora_linear(pass, *adapter, y, x);
    return;
  }
  ops::adapted_linear(y, pass.tensors.lora_product(layer, kind), x,
                      branch_input(pass, dropout_key(pass, layer, kind), x), weight, low_rank(*adapter));
}

// With dropout PEFT leaves the base's own product whole and drops what is added to it:
// y = W x + (k - 1) W d(x) + k s B A d(x) = W (x - d(x)) + k (W + s B A) d(x).
void Network::dora_linear(Pass& pass, const LoraPair& pair, const at::Tensor& y, const at::Tensor& x) {
  const auto weight = weights_.linear(pair.layer, pair.kind, &pair);
  const auto& factor = dora_.of(pair, weight.matrix);
  const auto product = pass.tensors.lora_product(pair.layer, pair.kind);
  const auto key = dropout_key(pass, pair.layer, pair.kind);
  if (key.p == 0.0) {
    ops::adapted_linear(y, product, x, x, weight, low_rank(pair));
    ops::scale_columns(y, y, factor);
    return;
  }
  auto dropped = branch_input(pass, key, x);
  auto scaled = pass.tensors.scaled(y.size(1));
  ops::adapted_linear(scaled, product, dropped, dropped, weight, low_rank(pair));
  ops::scale_columns(scaled, scaled, factor);
  at::sub_out(dropped, x, dropped);
  ops::linear(y, dropped, weight);
  ops::add(y, y, scaled);
}

// The layer's input is the residual after the layer below plus what that layer's down_proj left in delta.
void Network::attention_norm(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  if (layer == 0) {
    ops::rms_norm(t.normed(), t.rstd_attention(layer), t.residual(layer), weights_.attention_norm(layer),
                  config_.rms_norm_eps);
    return;
  }
  if (offloads(pass) && layer >= 3 && leaves(layer - 3)) {
    ops::backend().memory.await(static_cast<int>(layer % 3));  // its place is being copied out
  }
  ops::add_rms_norm(t.normed(), t.rstd_attention(layer), t.residual(layer), t.middle(layer - 1), t.delta(),
                    weights_.attention_norm(layer), config_.rms_norm_eps);
}

void Network::qkv(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  adapted_linear(pass, layer, LinearKind::kQkv, t.qkv(layer), t.normed());
  ops::rope(t.qkv(layer), t.cosine(), t.sine(), heads(), /*inverse=*/false);
}

void Network::attention(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  ops::attention(t.attention(layer), t.lse(layer), t.qkv(layer), pass.documents, heads(), window());
  adapted_linear(pass, layer, LinearKind::kO, t.delta(), t.attention(layer));
  ops::add_rms_norm(t.normed(), t.rstd_mlp(layer), t.middle(layer), t.residual(layer), t.delta(),
                    weights_.mlp_norm(layer), config_.rms_norm_eps);
}

void Network::gate_up(Pass& pass, int64_t layer) {
  adapted_linear(pass, layer, LinearKind::kGateUp, pass.tensors.gate_up(layer), pass.tensors.normed());
}

void Network::down(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  ops::swiglu(t.hidden(), t.gate_up(layer));
  adapted_linear(pass, layer, LinearKind::kDown, t.delta(), t.hidden());
}

void Network::forward(Pass& pass) {
  auto& t = pass.tensors;
  const int64_t last = config_.num_layers - 1;
  holders_ = {};
  ops::gather_rows(t.residual(0), embedding(), t.input_ids());
  if (pass.training && options_.noise_alpha > 0.0) {
    ops::add_noise(
        t.residual(0), pass.documents,
        {options_.noise_alpha, options_.dropout_seed, pass.step, pass.sample_ids, pass.tensors.sample_ids()});
  }
  for (int64_t layer = 0; layer <= last; ++layer) {
    attention_norm(pass, layer);
    send_out(pass, layer);
    qkv(pass, layer);
    attention(pass, layer);
    gate_up(pass, layer);
    down(pass, layer);
    const auto kept = plan::kept_by(shape_.saved[static_cast<size_t>(layer)]);
    holders_.qkv = kept.qkv ? holders_.qkv : layer;
    holders_.attention = kept.attention ? holders_.attention : layer;
    holders_.gate_up = kept.gate_up ? holders_.gate_up : layer;
  }
  if (offloads(pass) && last >= 2 && leaves(last - 2)) {
    ops::backend().memory.await(static_cast<int>((last + 1) % 3));
  }
  ops::add(t.residual(last + 1), t.middle(last), t.delta());
}

// ---- head ----

void Network::head(Pass& pass, const at::Tensor& sums, double gradient_scale, bool gradient) {
  auto& t = pass.tensors;
  ops::gather_rows(t.head_input(), t.residual(config_.num_layers), t.target_rows());
  ops::rms_norm(t.head_normed(), t.head_rstd(), t.head_input(), weights_.final_norm(), config_.rms_norm_eps);
  for (int64_t begin = 0; begin < pass.trained_rows; begin += options_.head_chunk) {
    const int64_t count = std::min(options_.head_chunk, pass.trained_rows - begin);
    const auto logits = t.logits().narrow(0, 0, count);
    const auto normed = t.head_normed().narrow(0, begin, count);
    ops::linear(logits, normed, head_weight());
    ops::cross_entropy(sums, t.row_losses(), logits, t.targets().narrow(0, begin, count),
                       t.weights().narrow(0, begin, count), gradient_scale, gradient);
    if (gradient) {
      if (trained_head_ != nullptr) {
        ops::weight_gradient(trained_head_->grad, logits, normed);
      }
      // The normed rows of this chunk have served: their gradient takes their place.
      ops::linear_input_gradient(normed, logits, head_weight());
    }
  }
  if (gradient) {
    t.d_head().zero_();
    ops::rms_norm_backward(t.d_head(), t.head_normed(), t.head_input(), t.head_rstd(), weights_.final_norm());
    ops::scatter_rows(t.d_residual(), t.d_head(), t.target_rows());
  }
}

at::Tensor Network::all_logits(Pass& pass) {
  const auto last = pass.tensors.residual(config_.num_layers);
  const auto normed = at::empty_like(last);
  const auto wide = options_.compute_dtype == at::kDouble ? at::kDouble : at::kFloat;
  const auto rstd = at::empty({last.size(0)}, last.options().dtype(wide));
  ops::rms_norm(normed, rstd, last, weights_.final_norm(), config_.rms_norm_eps);
  auto out = at::empty({last.size(0), config_.vocab_size}, last.options());
  ops::linear(out, normed, head_weight());
  return out;
}

// ---- backward ----

void Network::output_gradient(Pass& pass, int64_t layer, LinearKind kind, const at::Tensor& dy) {
  if (const auto* adapter = pair(layer, kind)) {
    const auto gradient = adapter->magnitude.defined() ? scaled_gradient(pass, *adapter, dy) : dy;
    ops::lora_output_gradient(adapter->grad_b, d_lora(pass, dy, *adapter), gradient,
                              pass.tensors.lora_product(layer, kind), weights_.linear(layer, kind, adapter),
                              low_rank(*adapter));
  }
}

void Network::input_gradient(Pass& pass, int64_t layer, LinearKind kind, const at::Tensor& dx, const at::Tensor& dy) {
  const auto* adapter = pair(layer, kind);
  const auto weight = weights_.linear(layer, kind, adapter);
  if (adapter == nullptr) {
    ops::linear_input_gradient(dx, dy, weight);
    return;
  }
  if (adapter->magnitude.defined()) {
    dora_input_gradient(pass, *adapter, dx, dy);
    return;
  }
  ops::adapted_input_gradient(dx, pass.tensors.dropped(dx.size(1)), dy, d_lora(pass, dy, *adapter), weight,
                              low_rank(*adapter), pass.documents, dropout_key(pass, layer, kind));
}

void Network::weight_gradient(Pass& pass, int64_t layer, LinearKind kind, const at::Tensor& dy, const at::Tensor& x) {
  if (const auto* adapter = pair(layer, kind)) {
    const auto branch = branch_input(pass, dropout_key(pass, layer, kind), x);
    ops::lora_input_weight_gradient(adapter->grad_a, d_lora(pass, dy, *adapter), branch);
    if (adapter->magnitude.defined()) {
      magnitude_gradient(pass, *adapter, dy, branch);
    }
  }
}

// The gradient of W + s B A's product: dy may be the residual's and must stay.
at::Tensor Network::scaled_gradient(Pass& pass, const LoraPair& pair, const at::Tensor& dy) {
  auto scaled = pass.tensors.scaled(dy.size(1));
  ops::scale_columns(scaled, dy, dora_factors(pair));
  return scaled;
}

void Network::dora_input_gradient(Pass& pass, const LoraPair& pair, const at::Tensor& dx, const at::Tensor& dy) {
  const auto weight = weights_.linear(pair.layer, pair.kind, &pair);
  const auto du = d_lora(pass, dy, pair);
  const auto scaled = scaled_gradient(pass, pair, dy);
  const auto key = dropout_key(pass, pair.layer, pair.kind);
  if (key.p == 0.0) {
    ops::adapted_input_gradient(dx, {}, scaled, du, weight, low_rank(pair), pass.documents, key);
    return;
  }
  scaled.sub_(dy);  // (k - 1) dy: what reaches W by way of d(x)
  auto through_dropout = pass.tensors.dropped(dx.size(1));
  ops::adapted_input_gradient(through_dropout, {}, scaled, du, weight, low_rank(pair), pass.documents, {});
  ops::dropout(through_dropout, through_dropout, pass.documents, key);
  ops::linear_input_gradient(dx, dy, weight);
  ops::add(dx, dx, through_dropout);
}

// dm = sum over tokens of dy * (W + s B A) d(x) / n.
void Network::magnitude_gradient(Pass& pass, const LoraPair& pair, const at::Tensor& dy, const at::Tensor& branch) {
  const auto weight = weights_.linear(pair.layer, pair.kind, &pair);
  const auto product = pass.tensors.scaled(dy.size(1));
  ops::adapted_linear(product, pass.tensors.lora_product(pair.layer, pair.kind), branch, branch, weight,
                      low_rank(pair));
  ops::column_products(pair.grad_magnitude, dy, product, pair.norm);
}

// What the layer's policy did not keep, unless it still lies in the shared place. All but down_proj: the layer's output
// is not needed.
void Network::recompute(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  const auto kept = plan::kept_by(shape_.saved[static_cast<size_t>(layer)]);
  const bool with_qkv = !kept.qkv && holders_.qkv != layer;
  const bool with_attention = !kept.attention && holders_.attention != layer;
  const bool with_gate_up = !kept.gate_up && holders_.gate_up != layer;
  if (with_qkv) {
    ops::rms_norm(t.normed(), t.rstd_attention(layer), t.residual(layer), weights_.attention_norm(layer),
                  config_.rms_norm_eps);
    qkv(pass, layer);
  }
  if (with_attention) {
    attention(pass, layer);
  } else if (with_gate_up) {
    ops::rms_norm(t.normed(), t.rstd_mlp(layer), t.middle(layer), weights_.mlp_norm(layer), config_.rms_norm_eps);
  }
  if (with_gate_up) {
    gate_up(pass, layer);
  }
}

void Network::mlp_backward(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  output_gradient(pass, layer, LinearKind::kDown, t.d_residual());
  input_gradient(pass, layer, LinearKind::kDown, t.d_hidden(), t.d_residual());
  const auto d_gate_up = t.gate_up(layer);  // its values are not needed any more
  const auto hidden = t.d_hidden();         // becomes the layer's hidden again: down_proj's adapter wants it
  ops::swiglu_backward(d_gate_up, hidden, t.d_hidden(), t.gate_up(layer));
  weight_gradient(pass, layer, LinearKind::kDown, t.d_residual(), hidden);

  ops::rms_norm(t.normed(), t.rstd_mlp(layer), t.middle(layer), weights_.mlp_norm(layer), config_.rms_norm_eps);
  output_gradient(pass, layer, LinearKind::kGateUp, d_gate_up);
  weight_gradient(pass, layer, LinearKind::kGateUp, d_gate_up, t.normed());
  input_gradient(pass, layer, LinearKind::kGateUp, t.d_normed(), d_gate_up);
  ops::rms_norm_backward(t.d_residual(), t.d_normed(), t.middle(layer), t.rstd_mlp(layer), weights_.mlp_norm(layer));
}

void Network::attention_backward(Pass& pass, int64_t layer) {
  auto& t = pass.tensors;
  output_gradient(pass, layer, LinearKind::kO, t.d_residual());
  weight_gradient(pass, layer, LinearKind::kO, t.d_residual(), t.attention(layer));
  input_gradient(pass, layer, LinearKind::kO, t.d_attention(), t.d_residual());
  ops::attention_backward(t.d_qkv(), t.d_attention(), t.attention(layer), t.lse(layer), t.qkv(layer), pass.documents,
                          heads(), window());
  ops::rope(t.d_qkv(), t.cosine(), t.sine(), heads(), /*inverse=*/true);
  ops::rms_norm(t.normed(), t.rstd_attention(layer), t.residual(layer), weights_.attention_norm(layer),
                config_.rms_norm_eps);
  output_gradient(pass, layer, LinearKind::kQkv, t.d_qkv());
  weight_gradient(pass, layer, LinearKind::kQkv, t.d_qkv(), t.normed());
  if (layer > lowest_ || trained_embedding_ != nullptr) {  // else nothing is trained below this qkv
    input_gradient(pass, layer, LinearKind::kQkv, t.d_normed(), t.d_qkv());
    ops::rms_norm_backward(t.d_residual(), t.d_normed(), t.residual(layer), t.rstd_attention(layer),
                           weights_.attention_norm(layer));
  }
}

void Network::backward(Pass& pass) {
  for (int64_t layer = config_.num_layers - 1; layer >= lowest_; --layer) {
    bring_in(pass, layer);
    recompute(pass, layer);
    mlp_backward(pass, layer);
    attention_backward(pass, layer);
  }
  if (trained_embedding_ != nullptr) {
    ops::embedding_gradient(trained_embedding_->grad, pass.tensors.d_residual(), pass.tensors.input_ids(),
                            config_.pad_token_id.value_or(-1));
  }
}

}  // namespace phi3tune::model
