#include "phi3tune/plan/run_plan.h"

#include <algorithm>
#include <numeric>

#include "phi3tune/quant/nf4.h"
#include "phi3tune/quant/nf4_layout.h"
#include "plan/walk.h"

namespace phi3tune::plan {
namespace {

using phi3::LinearKind;

DenseBuffer take_dense(Walk& walk, int64_t rows, int64_t cols, int64_t extra, size_t element_size) {
  return {walk.take((rows + extra) * (cols + extra), element_size), rows, cols, cols + extra, extra};
}

// A linear without an adapter has no room for one.
int64_t room_beside(const StepShape& step, size_t layer, LinearKind kind) {
  const bool adapted = !step.ranks.empty() && step.ranks[layer][static_cast<size_t>(kind)] > 0;
  return adapted ? extension(step, kind) : 0;
}

}  // namespace

const char* part_name(Part part) noexcept {
  switch (part) {
    case Part::kWeights:
      return "weights";
    case Part::kScratch:
      return "dequantisation scratch";
    case Part::kAdapter:
      return "adapter and gradients";
    case Part::kOptimizer:
      return "optimizer moments";
    case Part::kControl:
      return "step control";
    case Part::kStep:
      return "activations";
  }
  return "";
}

size_t RunPlan::total() const noexcept { return std::accumulate(bytes.begin(), bytes.end(), size_t{0}); }
size_t RunPlan::offset(Part part) const noexcept {
  return std::accumulate(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(part), size_t{0});
}

WeightBuffers declare_weights(const phi3::ModelConfig& config, const WeightShape& shape, const StepShape& step) {
  WeightBuffers buffers;
  if (!shape.in_arena) {
    return buffers;
  }
  Walk walk;
  const size_t size = shape.element_size;
  buffers.embedding = take_dense(walk, config.vocab_size, config.hidden_size, 0, size);
  for (size_t i = 0; i < static_cast<size_t>(config.num_layers); ++i) {
    WeightBuffers::Layer layer;
    layer.attention_norm = take_dense(walk, 1, config.hidden_size, 0, size);
    layer.mlp_norm = take_dense(walk, 1, config.hidden_size, 0, size);
    for (size_t k = 0; k < phi3::kLinearKinds; ++k) {
      const auto kind = static_cast<LinearKind>(k);
      const int64_t out = phi3::linear_out(config, kind);
      const int64_t in = phi3::linear_in(config, kind);
      if (shape.quantize) {
        const auto layout = quant::nf4_layout(out, in, shape.block_size, shape.double_quant);
        layer.quantized[k] = walk.take(static_cast<int64_t>(layout.bytes), 1);
      } else {
        layer.dense[k] = take_dense(walk, out, in, room_beside(step, i, kind), size);
      }
    }
    buffers.layers.push_back(layer);
  }
  buffers.final_norm = take_dense(walk, 1, config.hidden_size, 0, size);
  buffers.head =
      config.tie_word_embeddings ? buffers.embedding : take_dense(walk, config.vocab_size, config.hidden_size, 0, size);
  buffers.bytes = walk.bytes();
  return buffers;
}

ScratchBuffers declare_scratch(const phi3::ModelConfig& config, const WeightShape& shape, const StepShape& step) {
  ScratchBuffers buffers;
  if (!shape.quantize) {
    return buffers;
  }
  Walk walk;
  int64_t most_blocks = 0;
  for (size_t k = 0; k < phi3::kLinearKinds; ++k) {
    const auto kind = static_cast<LinearKind>(k);
    const int64_t out = phi3::linear_out(config, kind);
    const int64_t in = phi3::linear_in(config, kind);
    buffers.weight[k] = take_dense(walk, out, in, extension(step, kind), step.element_size);
    most_blocks = std::max(most_blocks, (out * in + shape.block_size - 1) / shape.block_size);
  }
  if (shape.in_arena) {
    buffers.absmax = walk.take(most_blocks, sizeof(float));
  }
  buffers.bytes = walk.bytes();
  return buffers;
}

AdapterBuffers declare_adapter(int64_t parameters, const StepShape& step) {
  Walk walk;
  AdapterBuffers buffers;
  buffers.parameters = walk.take(parameters, step.wide_size);
  buffers.gradients = walk.take(parameters, step.wide_size);
  if (step.element_size != step.wide_size) {
    buffers.copy = walk.take(parameters, step.element_size);
  }
  if (step.magnitudes > 0) {
    buffers.norms = walk.take(step.magnitudes, step.wide_size);
    buffers.factors = walk.take(step.magnitudes, step.wide_size);
    buffers.base_squares = walk.take(step.magnitudes, sizeof(double));
  }
  buffers.bytes = walk.bytes();
  return buffers;
}

OptimizerBuffers declare_optimizer(int64_t parameters, const StepShape& step) {
  Walk walk;
  OptimizerBuffers buffers;
  buffers.moment1 = walk.take(parameters, step.wide_size);
  buffers.moment2 = walk.take(parameters, step.wide_size);
  buffers.bytes = walk.bytes();
  return buffers;
}

int64_t ring_steps(int64_t logging_steps, bool on_gpu) noexcept {
  constexpr int64_t kMost = 1024;
  return on_gpu ? std::clamp<int64_t>(logging_steps, 1, kMost) : 1;
}

ControlBuffers declare_control(const RunShape& shape) {
  Walk walk;
  ControlBuffers buffers;
  buffers.ring_row = 2 * shape.micro_batches + 1;
  buffers.ring = walk.take(shape.ring_steps * buffers.ring_row, sizeof(double));
  buffers.control = walk.take(2, sizeof(double));
  buffers.partials = walk.take((shape.parameters + kNormBlock - 1) / kNormBlock, sizeof(double));
  buffers.evaluation = walk.take(2 * shape.evaluation_batches, sizeof(double));
  buffers.bytes = walk.bytes();
  return buffers;
}

RunPlan plan_run(const phi3::ModelConfig& config, const RunShape& shape) {
  RunPlan plan;
  const auto set = [&plan](Part part, size_t bytes) { plan.bytes[static_cast<size_t>(part)] = bytes; };
  const auto training = declare_step_buffers(config, shape.step, Purpose::kTrain);
  size_t step = training.bytes;
  if (shape.evaluation.tokens > 0) {
    step = std::max(step, declare_step_buffers(config, shape.evaluation, Purpose::kEvaluate).bytes);
  }
  set(Part::kWeights, declare_weights(config, shape.weights, shape.step).bytes);
  set(Part::kScratch, declare_scratch(config, shape.weights, shape.step).bytes);
  set(Part::kAdapter, declare_adapter(shape.parameters, shape.step).bytes);
  set(Part::kOptimizer, declare_optimizer(shape.parameters, shape.step).bytes);
  set(Part::kControl, declare_control(shape).bytes);
  set(Part::kStep, step);
  plan.host_bytes = training.host_bytes;
  return plan;
}

}  // namespace phi3tune::plan
