// A model folder with the adapter merged into its weights: W + s B A in float32, rounded once.
//
// Streamed tensor by tensor: of the result a block of rows is in memory at a time, of the base the pages of one tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "phi3tune/io/safetensors.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::checkpoint {

struct MergeOptions {
  std::string out;
  std::optional<io::DType> dtype;  // F32, BF16 or F16; nothing: the base's
  uint64_t shard_size = 50'000'000'000;
  // Into the weights as NF4 holds them, as the adapter was trained over them. The adapter says how they were held; with
  // one that does not say: blocks of 64, double quantisation.
  bool quantized_base = false;
  // Run base + adapter and the result on the same tokens. Nothing: where the base is merged from NF4.
  std::optional<bool> verify;
  uint64_t free_memory = UINT64_MAX;  // bytes that those networks may take
};

// Both networks on the same tokens.
struct MergeCheck {
  double max_difference = 0.0;  // of a logit
  double max_logit = 0.0;       // magnitude, of base + adapter
  std::string compute_dtype;    // "float32"; "bfloat16" where memory is short
  int64_t tokens = 0;
};

struct MergeReport {
  std::string out;
  io::DType dtype{};
  std::vector<std::string> files;  // sorted
  int64_t parameters = 0;
  uint64_t bytes = 0;  // of the tensors
  size_t shards = 0;
  size_t modules = 0;  // that the adapter changed
  bool tied = false;   // the head is the embedding
  std::optional<MergeCheck> check;
};

// Shards, names, order and index are those of transformers' save_pretrained for a model that was loaded; config.json
// keeps its spelling, and generation_config.json and the tokenizer's files are copied byte for byte. `out` must not
// exist: it is filled beside its place, opened again as a model folder and renamed.
// Throws ConfigError (out is there already, or lies in what is read), CheckpointError (the adapter is not this base's),
// ModelError, NumericsError (a value is not finite in the dtype: the tensor), ResourceError (no room; disk),
// Interrupted. Nothing is left behind then.
MergeReport merge(const phi3::ModelFolder& base, const std::string& adapter, const MergeOptions& options);

}  // namespace phi3tune::checkpoint
