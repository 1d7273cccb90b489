// The memory of a run by part, from config.json and options alone: the same walks that cut the arena.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "phi3tune/phi3/model_config.h"
#include "phi3tune/plan/step_buffers.h"

namespace phi3tune::plan {

struct WeightShape {
  bool quantize = false;  // the four linears of every layer as NF4
  int64_t block_size = 64;
  bool double_quant = true;
  size_t element_size = 2;  // bytes of a 16-bit or 32-bit weight as held
  // Weights in the arena; false: used where the file is mapped (a CPU run in the file's dtype), NF4 in memory of its
  // own.
  bool in_arena = true;
  int64_t changed = 0;  // elements of the linears that are not used as the file has them (PiSSA): held, not mapped
};

// A dense weight [rows, cols] with rows ld apart and `extra_rows` below it: room for an adapter.
struct DenseBuffer {
  size_t offset = 0;
  int64_t rows = 0, cols = 0, ld = 0, extra_rows = 0;
};
struct WeightBuffers {
  size_t bytes = 0;
  DenseBuffer embedding, head, final_norm;  // head: the embedding itself where tied
  struct Layer {
    DenseBuffer attention_norm, mlp_norm;
    std::array<DenseBuffer, phi3::kLinearKinds> dense;   // not quantised
    std::array<size_t, phi3::kLinearKinds> quantized{};  // offset of a block of quant::nf4_layout
  };
  std::vector<Layer> layers;
};
struct ScratchBuffers {
  size_t bytes = 0;
  std::array<DenseBuffer, phi3::kLinearKinds> weight;  // one layer, dequantised
  size_t absmax = 0;                                   // offset of the scales of one weight while it is quantised
};

// Flat buffers, byte offsets.
struct AdapterBuffers {
  size_t bytes = 0;
  size_t parameters = 0, gradients = 0;  // wide
  size_t copy = 0;                       // in the compute dtype, where that is narrower
  size_t norms = 0, factors = 0;         // of DoRA, wide: [magnitudes]
  size_t base_squares = 0;               // float64
};
struct OptimizerBuffers {
  size_t bytes = 0;
  size_t moment1 = 0, moment2 = 0;  // wide
};

struct RunShape {
  WeightShape weights;
  StepShape step;                  // of the largest micro-batch
  StepShape evaluation;            // of the largest evaluation batch; tokens 0: none
  int64_t parameters = 0;          // of the adapter
  int64_t micro_batches = 1;       // of a step
  int64_t ring_steps = 1;          // steps between two reads
  int64_t evaluation_batches = 1;  // of the largest evaluation set
};

inline constexpr int64_t kNormBlock = 16384;  // gradients of one partial sum of their norm
// Steps whose numbers wait for the host: logging_steps on a GPU, at most 1024; the CPU's are read at once.
int64_t ring_steps(int64_t logging_steps, bool on_gpu) noexcept;

// What the back end and the host tell each other, float64.
struct ControlBuffers {
  size_t bytes = 0;
  size_t ring = 0;  // [ring_steps, ring_row]: losses [micro_batches, 2] of a step, then its norm
  int64_t ring_row = 0;
  size_t control = 0;     // [2]
  size_t partials = 0;    // [ceil(parameters / 16384)]
  size_t evaluation = 0;  // [evaluation_batches, 2]
};

enum class Part { kWeights, kScratch, kAdapter, kOptimizer, kControl, kStep };
inline constexpr size_t kParts = 6;
const char* part_name(Part part) noexcept;  // "weights", "dequantisation scratch", …

struct RunPlan {
  std::array<size_t, kParts> bytes{};
  size_t host_bytes = 0;  // offloaded activations
  size_t total() const noexcept;
  size_t offset(Part part) const noexcept;  // of the part in the arena
};

WeightBuffers declare_weights(const phi3::ModelConfig& config, const WeightShape& shape, const StepShape& step);
ScratchBuffers declare_scratch(const phi3::ModelConfig& config, const WeightShape& shape, const StepShape& step);
AdapterBuffers declare_adapter(int64_t parameters, const StepShape& step);
OptimizerBuffers declare_optimizer(int64_t parameters, const StepShape& step);
ControlBuffers declare_control(const RunShape& shape);
RunPlan plan_run(const phi3::ModelConfig& config, const RunShape& shape);

}  // namespace phi3tune::plan
