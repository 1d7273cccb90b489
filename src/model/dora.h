// DoRA's factors: each row of W + s B A is brought to its trained magnitude.
//
// y = m / n * (W + s B A) x, n the rows' norms, a constant in the backward (arXiv 2402.09353, section 4.3; PEFT's
// DoraLinearLayer). n is found once after each change of the parameters, from
//   ||W + s B A||^2 = ||W||^2 + 2 s rowsum(B * (W A^T)) + s^2 rowsum(B * (B (A A^T))),
// with W a few rows at a time, so that B A never exists.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "phi3tune/model/lora.h"

namespace phi3tune::model {

class DoraFactors {
 public:
  void attach(const LoraAdapters& adapters);
  // After the parameters changed: every factor is found anew when it is next asked for.
  void parameters_changed() noexcept;
  // Whether the pair's factor is up to date.
  bool known(const LoraPair& pair) const { return known_[index_of(pair)]; }
  // m / n of the pair, [out] wide; its norm is up to date too. `weight`: W [out, in] of the compute dtype.
  const at::Tensor& of(const LoraPair& pair, const at::Tensor& weight);
  // A fresh magnitude: the norm itself.
  void start(const LoraPair& pair, const at::Tensor& weight);

 private:
  void find_norm(const LoraPair& pair, const at::Tensor& weight);
  size_t index_of(const LoraPair& pair) const;

  const LoraAdapters* adapters_ = nullptr;
  std::vector<bool> base_known_, known_;  // by pair
};

}  // namespace phi3tune::model
