// Examples to rows to micro-batches: packing, the order of an epoch, and the arithmetic of steps and epochs.
//
// No token attends across two documents; a row is a document, or several packed with their borders kept. The order
// depends on the seed and the epoch alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/data/dataset.h"

namespace phi3tune::data {

// torch.randperm(n) from a CPU generator seeded with the low 32 bits of `seed`: mt19937; for i < n-1 swap i with
// i + next() mod (n - i).
std::vector<int64_t> random_permutation(int64_t n, uint64_t seed);

// Indices of examples that share a row.
using Row = std::vector<int64_t>;

// bfd: sorted by length descending (stable), best fit, equal bins oldest first. sequential: in order, next row when
// full.
std::vector<Row> pack_rows(std::span<const Example> examples, const config::DataOptions& options);
// One example a row.
std::vector<Row> single_rows(std::span<const Example> examples);

// Documents of one forward pass, flat.
struct MicroBatch {
  std::vector<int64_t> input_ids;    // [M]
  std::vector<int32_t> cu_seqlens;   // [documents + 1], from 0 to M
  std::vector<int64_t> target_rows;  // rows (positions in [0, M)) whose logits predict a trained token
  std::vector<int64_t> targets;      // the token each of them should predict
  std::vector<float> weights;        // one per target
  std::vector<uint64_t> sample_ids;  // one per document
  std::vector<int64_t> examples;     // indices into the dataset, one per document
  double weight_sum() const noexcept;
};

MicroBatch make_micro_batch(std::span<const Example> examples, std::span<const Row> rows);

// The Trainer's arithmetic (transformers): groups never span epochs. Throws ConfigError when num_epochs asks for more
// than 2^31 - 1 steps.
struct StepPlan {
  int64_t batches_per_epoch = 0;
  int64_t updates_per_epoch = 0;
  int64_t max_steps = 0;
  int64_t num_epochs = 0;  // epochs looped
};
StepPlan plan_steps(int64_t num_rows, const config::ScheduleOptions& options);

// Rows of every micro-batch of every optimizer step of one epoch, in order: step -> micro-batch -> row indices.
using EpochPlan = std::vector<std::vector<std::vector<int64_t>>>;
EpochPlan plan_epoch(std::span<const Row> rows, std::span<const Example> examples, int64_t epoch,
                     const config::ScheduleOptions& schedule, const config::DataOptions& data);

}  // namespace phi3tune::data
