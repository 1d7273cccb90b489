// AdamW over one flat buffer of parameters.
//
// torch.optim.AdamW's definition: p *= 1 - lr wd; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
// p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps). All of a LoRA adapter's parameters decay, as in the
// Trainer of transformers: none is a bias or a norm.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/model/arena.h"

namespace phi3tune::train {

// What a later run needs beside the parameters to go on with the same bits.
struct AdamWState {
  at::Tensor moment1;  // [n], the dtype of the parameters
  at::Tensor moment2;
  int64_t step = 0;  // updates made
};

// The next `count` parameters' share of the learning rate.
struct RateRun {
  int64_t count = 0;
  double factor = 1.0;
  bool operator==(const RateRun&) const = default;
};

class AdamW {
 public:
  // `parameters` and `gradients` [n], float32 or float64; the tensors share their memory with the caller's. copy, if
  // defined: [n] of the compute dtype, gets every update's parameters. The moments are the arena's optimizer part.
  // rates: from the first parameter to the last; empty: one rate for all.
  AdamW(at::Tensor parameters, at::Tensor gradients, at::Tensor copy, const config::ScheduleOptions& options,
        model::Arena& arena, std::vector<RateRun> rates = {});

  // One update, with the gradients' factor and the halt of `control` (ops::step_norm).
  void update(double learning_rate, const at::Tensor& control);
  // Takes back the count of updates that the back end did not make.
  void forget_updates(int64_t count) noexcept { state_.step -= count; }

  // Goes on after `updates` updates, whose moments were written into state()'s tensors.
  void resume(int64_t updates) noexcept { state_.step = updates; }

  const AdamWState& state() const noexcept { return state_; }

 private:
  at::Tensor parameters_;
  at::Tensor gradients_;
  at::Tensor copy_;
  AdamWState state_;
  std::vector<RateRun> rates_;
  double beta1_;
  double beta2_;
  double epsilon_;
  double weight_decay_;
};

}  // namespace phi3tune::train
