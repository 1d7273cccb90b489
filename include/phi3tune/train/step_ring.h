// The numbers of the last few steps, where the back end writes them: losses and norms wait there until somebody looks,
// so a device is not stopped at every step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "phi3tune/model/arena.h"

namespace phi3tune::train {

class StepRing {
 public:
  // For `steps` steps of at most `micro_batches`, evaluations of at most `evaluation_batches`, `parameters` trained
  // numbers. The memory is the arena's control part.
  StepRing(model::Arena& arena, int64_t steps, int64_t micro_batches, int64_t evaluation_batches, int64_t parameters);

  int64_t steps() const noexcept { return steps_; }
  int64_t micro_batches() const noexcept { return micro_batches_; }
  // Zeroes the place of a step, before it is computed.
  void clear(int64_t place);
  at::Tensor losses(int64_t place) const;                          // float64 [micro_batches, 2]
  at::Tensor losses(int64_t place, int64_t micro_batch) const;     // float64 [2]
  at::Tensor norm(int64_t place) const;                            // float64 [1]
  const at::Tensor& control() const noexcept { return control_; }  // float64 [2]: see ops::step_norm
  const at::Tensor& partials() const noexcept { return partials_; }
  // Zeroed float64 [evaluation_batches, 2].
  at::Tensor evaluation() const;

  struct Numbers {
    std::vector<double> losses;  // of each micro-batch, weighted sums
    double norm = 0.0;
  };
  // The first `count` places. Waits.
  std::vector<Numbers> read(int64_t count) const;

 private:
  int64_t steps_;
  int64_t micro_batches_;
  int64_t row_;
  at::Tensor ring_, control_, partials_, evaluation_;
};

}  // namespace phi3tune::train
