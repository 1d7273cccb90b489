// An estimate of the device memory that lies outside the arena because libraries take it themselves.
#pragma once

#include <cstddef>
#include <cstdint>

#include "phi3tune/phi3/model_config.h"
#include "phi3tune/plan/run_plan.h"

namespace phi3tune::plan {

struct LibraryMemory {
  // FlashAttention 2 as PyTorch binds it, for bf16. Forward: the output and the log-sum-exp. Backward: a dense copy of
  // the output, gradients of q, k and v, of every head where heads share keys, a row sum and the fp32 sums of dQ, both
  // 128 rows longer a document. The latter come as often as blocks of documents and heads must be split to fill the
  // GPU, so that the order of sums is fixed (pytorch, aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp,
  // mha_varlen_bwd).
  size_t attention = 0;
  size_t workspace = 0;  // cuBLASLt's, 64 MiB
  size_t context = 0;    // the CUDA context and the code of the kernels: 448 MiB, an assumption
  size_t total() const noexcept { return attention + workspace + context; }
};

// Of a run on a GPU with that many multiprocessors; 0: not known, the most that any GPU has.
inline constexpr int64_t kMostMultiprocessors = 170;  // GeForce RTX 5090
LibraryMemory library_memory(const phi3::ModelConfig& config, const RunShape& shape, int64_t multiprocessors);

}  // namespace phi3tune::plan
