// Where and how a run computes: everything `auto` is settled here, once, and written into run.json.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/data/dataset.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/model_config.h"
#include "phi3tune/plan/choose.h"

namespace phi3tune::commands {

struct Compute {
  const ops::Backend* backend = nullptr;
  std::string device;  // "cpu", "cuda:0"
  int threads = 0;
  at::ScalarType dtype = at::kFloat;
  plan::Candidate plan;  // shapes, memory by part, what the layers keep
  plan::RowFacts rows;   // the largest that the data hold
  // What the settings said, where memory ran out before step 1 and less was taken; 0: they stand.
  int64_t micro_batch_size_was = 0;
  int64_t eval_batch_size_was = 0;
};

// Opens the device, makes it the back end of the process, sets the thread count; writes a micro_batch_size that was
// left to the plan into the settings. What is left to the plan takes at most `at_most` bytes, where that can be. Throws
// ResourceError when a GPU is asked for and cannot be used, or when the run does not fit, saying what would;
// Interrupted.
Compute settle_compute(config::RunOptions& run, const phi3::ModelConfig& model, const phi3::AdapterConfig& adapter,
                       const data::Dataset& dataset, size_t at_most = SIZE_MAX);

// For run.json and the log.
std::vector<std::pair<std::string, std::string>> compute_facts(const Compute& compute);

// bf16: auto is bfloat16 on a GPU and where the processor multiplies it fast; a slow choice is said on the log.
at::ScalarType settle_dtype(config::ComputeDType wanted, bool on_gpu);

// The processor multiplies bf16 faster than fp32 (avx512_bf16; without it bf16 is slower by half).
bool has_fast_bfloat16();
// Cores that this process may use.
int usable_cores();

}  // namespace phi3tune::commands
