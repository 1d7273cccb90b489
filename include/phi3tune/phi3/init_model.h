// A model folder with seeded random weights, in Hugging Face layout: for smoke runs, benchmarks and bug reports.
//
// Weights: every linear and embedding N(0, 0.02) (as transformers initialises them), every norm 1. Element i of tensor
// NAME with seed S is a function of (S, NAME, i) alone, in integer arithmetic and one float product, so that the same
// options give the same bytes on every machine (src/phi3/random_weights.h says how).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "phi3tune/phi3/model_config.h"
#include "phi3tune/phi3/state_dict.h"

namespace phi3tune::phi3 {

// "tiny", "tiny-gqa", "tiny-longrope", "tiny-tied-partial", "phi-3-mini-4k", "phi-3-medium-4k".
const std::vector<std::string_view>& shape_names();
// The config of a named shape with Phi-3's vocabulary of 32064. Throws ConfigError for an unknown name.
ModelConfig named_shape(std::string_view name);

struct InitModelOptions {
  std::string folder;              // made with its parents; may exist only when it is empty
  std::string shape = "tiny";      // one of shape_names()
  std::optional<int64_t> layers;   // instead of the shape's own number
  std::string dtype = "bfloat16";  // "bfloat16", "float16", "float32"
  uint64_t seed = 0;
  // Folder whose tokenizer files are copied; the tiny shapes take their vocabulary size and token ids from it, the
  // others must be large enough for it. Empty: no tokenizer, Phi-3's own ids.
  std::string tokenizer;
  uint64_t shard_limit = kShardLimit;  // bytes
  int threads = 0;                     // 0: all cores this process may use
};

struct InitModelReport {
  ModelConfig config;
  int64_t parameters = 0;
  uint64_t bytes = 0;              // of all tensors
  std::vector<std::string> files;  // names, in the order written
  bool stopped = false;            // the stop flag was set: nothing is left of the folder
};

// The folder appears whole or not at all. Throws ConfigError (options, a folder that is not empty), ModelError
// (tokenizer files), ResourceError (disk).
InitModelReport init_model(const InitModelOptions& options);

}  // namespace phi3tune::phi3
