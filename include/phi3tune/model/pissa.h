// PiSSA (arXiv 2404.02948): an adapter starts as the principal part of its linear, and the base keeps the rest.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "phi3tune/model/lora.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::model {

struct PissaOptions {
  at::ScalarType compute_dtype = at::kFloat;  // W is rounded to it first, as it is held
  int64_t iterations = -1;                    // of the randomised decomposition; -1: the exact one
  uint64_t seed = 0;                          // of the randomised one
};

// The starts of all pairs, flat as LoraAdapters::parameters(), on the host: of W = U S V^T in float32 the `rank`
// largest singular values, as PEFT's pissa_init: A = sqrt(S / scale) V^T, B = U sqrt(S / scale), so that scale * B A is
// W's best approximation of that rank. Randomised: torch.svd_lowrank. Magnitudes are zero. Polls the stop flag between
// linears. Throws ConfigError (a rank above what the linear has; a base that is quantised already), ModelError,
// Interrupted.
at::Tensor principal_parts(const phi3::ModelFolder& folder, const LoraAdapters& adapters, const PissaOptions& options);

// W - scale * B A of the adapter's start, in W's dtype: computed in float32 (float64 for float64) and rounded once.
at::Tensor without_principal_part(const at::Tensor& weight, const LoraPair& pair);

}  // namespace phi3tune::model
