// From the settings of a run and what is known of its rows to the shape that memory is planned for.
#pragma once

#include <cstdint>

#include "phi3tune/config/options.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/model_config.h"
#include "phi3tune/plan/run_plan.h"

namespace phi3tune::plan {

// The largest rows that the data hold, or what is assumed of them.
struct RowFacts {
  int64_t longest = 0;             // tokens of the longest row of training: an example, or a pack
  int64_t trained = 0;             // most trained tokens of a row; 0: all of the longest
  int64_t documents = 1;           // most documents of a row
  int64_t evaluation_longest = 0;  // 0: there is no validation data
  int64_t evaluation_trained = 0;
  int64_t evaluation_documents = 1;
  int64_t evaluation_batches = 1;  // of the largest validation set
  int64_t evaluation_rows = 0;     // of a pass of evaluation; 0: as many as one of training
  // How many rows there are, where that is known: a pass takes no more.
  int64_t rows = INT64_MAX;
  int64_t most_evaluation_rows = INT64_MAX;
  // Data unread: packs of sequence_len, or examples as long as is allowed; one document a row, trained whole.
  static RowFacts assumed(const config::RunOptions& run);
};

// How the device holds and computes.
struct DeviceShape {
  bool gpu = true;
  size_t element_size = 2;      // bytes of the compute dtype
  int64_t multiprocessors = 0;  // of a GPU; 0: not known, the most of any
};

// micro_batch_size rows a pass; `saved` is what the settings say in every layer, kBlock for auto until it is chosen.
// Rows have room for adapters on a GPU.
RunShape run_shape(const config::RunOptions& run, const phi3::ModelConfig& model, const phi3::AdapterConfig& adapter,
                   const RowFacts& rows, const DeviceShape& device);

// The same run with `rows` rows a pass and `micro_batches` passes a step.
RunShape with_micro_batch(RunShape shape, const RowFacts& facts, int64_t rows, int64_t micro_batches);
RunShape with_saved(RunShape shape, SavedActivations everywhere);
// micro_batch_size: auto as it was settled: the settings and their resolved texts say the rows and passes of `shape`.
void write_micro_batch(const RunShape& shape, const RowFacts& facts, config::RunOptions& run);

const char* policy_name(SavedActivations saved) noexcept;  // "gate_up", as gradient_checkpointing takes it

// What the base's weights take outside the arena, on the CPU.
struct HostWeights {
  size_t mapped = 0;  // used where the file is mapped: the system may drop and read it again
  size_t held = 0;    // NF4, or converted to the compute dtype
};
HostWeights host_weights(const phi3::ModelConfig& model, const WeightShape& weights, size_t element_size);

}  // namespace phi3tune::plan
