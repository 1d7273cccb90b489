// The declared buffers of a pass as tensors inside the arena.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "phi3tune/model/arena.h"
#include "phi3tune/phi3/model_config.h"
#include "phi3tune/plan/step_buffers.h"

namespace phi3tune::model {

class StepTensors {
 public:
  StepTensors(plan::StepBuffers buffers, Arena& arena, at::ScalarType compute_dtype);

  at::Tensor residual(int64_t i) const { return view(buffers_.residuals[static_cast<size_t>(i)]); }
  at::Tensor rstd_attention(int64_t i) const { return flat(layer(i).rstd_attention); }
  at::Tensor qkv(int64_t i) const { return view(layer(i).qkv); }
  at::Tensor attention(int64_t i) const { return view(layer(i).attention); }
  at::Tensor lse(int64_t i) const { return view(layer(i).lse); }
  at::Tensor middle(int64_t i) const { return view(layer(i).middle); }
  at::Tensor rstd_mlp(int64_t i) const { return flat(layer(i).rstd_mlp); }
  at::Tensor gate_up(int64_t i) const { return view(layer(i).gate_up); }
  at::Tensor lora_product(int64_t i, phi3::LinearKind kind) const {
    return view(layer(i).lora_product[static_cast<size_t>(kind)]);
  }

  at::Tensor input_ids() const { return flat(buffers_.input_ids); }
  at::Tensor target_rows() const { return flat(buffers_.target_rows); }
  at::Tensor targets() const { return flat(buffers_.targets); }
  at::Tensor weights() const { return flat(buffers_.weights); }
  at::Tensor cu_seqlens() const { return flat(buffers_.cu_seqlens); }
  at::Tensor sample_ids() const { return flat(buffers_.sample_ids); }
  at::Tensor cosine() const { return view(buffers_.cosine); }
  at::Tensor sine() const { return view(buffers_.sine); }
  at::Tensor normed() const { return view(buffers_.normed); }
  at::Tensor delta() const { return view(buffers_.delta); }
  at::Tensor hidden() const { return view(buffers_.hidden); }
  // [M, columns], undefined without dropout.
  at::Tensor dropped(int64_t columns) const;
  // [M, columns], undefined without DoRA and outside training.
  at::Tensor scaled(int64_t columns) const;
  at::Tensor d_residual() const { return view(buffers_.d_residual); }
  at::Tensor d_normed() const { return view(buffers_.d_normed); }
  at::Tensor d_hidden() const { return view(buffers_.d_hidden); }
  at::Tensor d_attention() const { return view(buffers_.d_attention); }
  at::Tensor d_qkv() const { return view(buffers_.d_qkv); }
  // The gradient of a linear's u, given that of its output: the columns behind it where its rows have room.
  at::Tensor d_lora(const at::Tensor& dy, int64_t rank, bool extended) const;
  at::Tensor head_input() const { return view(buffers_.head_input); }
  at::Tensor head_normed() const { return view(buffers_.head_normed); }
  at::Tensor head_rstd() const { return flat(buffers_.head_rstd); }
  at::Tensor d_head() const { return view(buffers_.d_head); }
  at::Tensor logits() const { return view(buffers_.logits); }
  at::Tensor row_losses() const { return view(buffers_.row_losses); }

 private:
  const plan::LayerBuffers& layer(int64_t i) const { return buffers_.layers[static_cast<size_t>(i)]; }
  at::ScalarType dtype(const plan::Buffer& buffer) const;
  at::Tensor view(const plan::Buffer& buffer) const;
  at::Tensor flat(const plan::Buffer& buffer) const;

  plan::StepBuffers buffers_;
  at::Tensor block_;
  at::ScalarType compute_dtype_;
};

}  // namespace phi3tune::model
