// Where and how a run computes: everything `auto` is settled here, once, and written into run.json.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/data/dataset.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::commands {

struct Compute {
  std::string device;  // "cpu"
  int threads = 0;
  at::ScalarType dtype = at::kFloat;
  bool save_activations = true;
  uint64_t activation_bytes = 0;  // of the largest micro-batch a step may have
};

// Sets the thread count of the process. Throws ResourceError when a CUDA device is asked for: no plug-in is part of
// this build; ConfigError for bf16 on a processor without the instructions, unless it was asked for by name.
Compute settle_compute(const config::RunOptions& run, const phi3::ModelConfig& model,
                       const phi3::AdapterConfig& adapter, const data::Dataset& dataset);

// For run.json and the log.
std::vector<std::pair<std::string, std::string>> compute_facts(const Compute& compute);

// The processor multiplies bf16 faster than fp32 (avx512_bf16; without it bf16 is slower by half).
bool has_fast_bfloat16();

}  // namespace phi3tune::commands
