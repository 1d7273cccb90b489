// AdamW over one flat buffer of parameters, and the norm it is clipped by.
//
// torch.optim.AdamW's definition: p *= 1 - lr wd; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
// p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps). All of a LoRA adapter's parameters decay, as in the
// Trainer of transformers: none is a bias or a norm.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "phi3tune/config/options.h"

namespace phi3tune::train {

// What a later run needs beside the parameters to go on with the same bits.
struct AdamWState {
  at::Tensor moment1;  // [n], the dtype of the parameters
  at::Tensor moment2;
  int64_t step = 0;  // updates made
};

class AdamW {
 public:
  // `parameters` and `gradients` [n], float32 or float64; the tensors share their memory with the caller's.
  AdamW(at::Tensor parameters, at::Tensor gradients, const config::ScheduleOptions& options);

  // L2 norm of all gradients, in fp64 by a fixed order; not finite if any gradient is not.
  double gradient_norm() const;
  // One update with gradients multiplied by gradient_scale first.
  void update(double learning_rate, double gradient_scale);

  const AdamWState& state() const noexcept { return state_; }

 private:
  at::Tensor parameters_;
  at::Tensor gradients_;
  AdamWState state_;
  double beta1_;
  double beta2_;
  double epsilon_;
  double weight_decay_;
};

// torch.nn.utils.clip_grad_norm_: min(1, max_norm / (norm + 1e-6)); 1 when max_norm <= 0.
double clip_scale(double norm, double max_norm) noexcept;

}  // namespace phi3tune::train
