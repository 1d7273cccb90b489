// The declared buffers of a pass as tensors inside one arena.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "phi3tune/phi3/model_config.h"
#include "phi3tune/plan/step_buffers.h"

namespace phi3tune::model {

// One block of memory, taken once and only ever replaced by a larger one.
class Arena {
 public:
  std::byte* reserve(size_t bytes);
  size_t size() const noexcept { return size_; }

 private:
  at::Tensor memory_;
  size_t size_ = 0;
};

class StepTensors {
 public:
  StepTensors(plan::StepBuffers buffers, Arena& arena, at::ScalarType compute_dtype);

  at::Tensor residual(int64_t i) const { return view(buffers_.residuals[static_cast<size_t>(i)]); }
  at::Tensor rstd_attention(int64_t i) const { return view(layer(i).rstd_attention).squeeze(1); }
  at::Tensor qkv(int64_t i) const { return view(layer(i).qkv); }
  at::Tensor attention(int64_t i) const { return view(layer(i).attention); }
  at::Tensor lse(int64_t i) const { return view(layer(i).lse); }
  at::Tensor middle(int64_t i) const { return view(layer(i).middle); }
  at::Tensor rstd_mlp(int64_t i) const { return view(layer(i).rstd_mlp).squeeze(1); }
  at::Tensor gate_up(int64_t i) const { return view(layer(i).gate_up); }
  at::Tensor lora_product(int64_t i, phi3::LinearKind kind) const {
    return view(layer(i).lora_product[static_cast<size_t>(kind)]);
  }

  at::Tensor cosine() const { return view(buffers_.cosine); }
  at::Tensor sine() const { return view(buffers_.sine); }
  at::Tensor normed() const { return view(buffers_.normed); }
  at::Tensor delta() const { return view(buffers_.delta); }
  at::Tensor hidden() const { return view(buffers_.hidden); }
  at::Tensor dropped(int64_t columns) const { return view(buffers_.dropped, columns); }
  at::Tensor d_residual() const { return view(buffers_.d_residual); }
  at::Tensor d_normed() const { return view(buffers_.d_normed); }
  at::Tensor d_hidden() const { return view(buffers_.d_hidden); }
  at::Tensor d_attention() const { return view(buffers_.d_attention); }
  at::Tensor d_qkv() const { return view(buffers_.d_qkv); }
  at::Tensor d_lora(int64_t rank) const { return view(buffers_.d_lora, rank); }
  at::Tensor head_input() const { return view(buffers_.head_input); }
  at::Tensor head_normed() const { return view(buffers_.head_normed); }
  at::Tensor head_rstd() const { return view(buffers_.head_rstd).squeeze(1); }
  at::Tensor d_head() const { return view(buffers_.d_head); }
  at::Tensor logits() const { return view(buffers_.logits); }

 private:
  const plan::LayerBuffers& layer(int64_t i) const { return buffers_.layers[static_cast<size_t>(i)]; }
  // `columns`: fewer than declared, for a buffer that serves several widths.
  at::Tensor view(const plan::Buffer& buffer, int64_t columns = -1) const;

  plan::StepBuffers buffers_;
  std::byte* base_;
  at::ScalarType compute_dtype_;
};

}  // namespace phi3tune::model
