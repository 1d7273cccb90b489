#include "phi3tune/plan/run_shape.h"

#include <algorithm>
#include <string>

#include "phi3tune/core/error.h"
#include "phi3tune/quant/nf4_layout.h"

namespace phi3tune::plan {
namespace {

using phi3::LinearKind;

constexpr int64_t kHeadChunk = 1024;  // trained rows whose logits exist at one time

size_t dtype_size(const std::string& name) { return name == "float32" ? 4 : 2; }

}  // namespace

RowFacts RowFacts::assumed(const config::RunOptions& run) {
  RowFacts facts;
  // A document's last token predicts nothing.
  facts.longest = run.data.sequence_len;
  facts.trained = std::max<int64_t>(1, run.data.sequence_len - 1);
  if (run.data.val_set_size > 0 || !run.data.test_datasets.empty()) {
    facts.evaluation_longest = facts.longest;
    facts.evaluation_trained = facts.trained;
  }
  facts.evaluation_rows = run.schedule.eval_batch_size;
  return facts;
}

RunShape run_shape(const config::RunOptions& run, const phi3::ModelConfig& model, const phi3::AdapterConfig& adapter,
                   const RowFacts& rows, const DeviceShape& device) {
  RunShape shape;
  shape.weights.quantize = run.method == config::AdapterMethod::kQlora || model.quantization.has_value();
  shape.weights.block_size = run.quant.block_size;
  shape.weights.double_quant = model.quantization ? model.quantization->double_quant : run.quant.double_quant;
  shape.weights.element_size = device.element_size;
  shape.weights.in_arena = device.gpu;
  shape.ring_steps = ring_steps(run.output.logging_steps, device.gpu);
  auto& step = shape.step;
  step.head_chunk = kHeadChunk;
  step.element_size = device.element_size;
  step.dropout = adapter.dropout > 0;
  step.extended = device.gpu;
  if (adapter.use_dora && device.gpu) {
    throw ConfigError(
        "use_dora: DoRA adapters train on the CPU yet, found a GPU; write device: cpu, or take use_dora out");
  }
  const bool from_base = run.lora.init == config::LoraOptions::Init::kPissa && run.lora.init_adapter.empty();
  step.ranks.resize(static_cast<size_t>(model.num_layers));
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (int kind = 0; kind < phi3::kLinearKinds; ++kind) {
      const auto linear = static_cast<LinearKind>(kind);
      const auto path = phi3::linear_path(layer, linear);
      const int64_t rank = adapter.targets(path) ? adapter.rank_of(path) : 0;
      step.ranks[static_cast<size_t>(layer)][static_cast<size_t>(kind)] = rank;
      shape.weights.changed +=
          from_base && rank > 0 ? phi3::linear_in(model, linear) * phi3::linear_out(model, linear) : 0;
      step.magnitudes += adapter.use_dora && rank > 0 ? phi3::linear_out(model, linear) : 0;
    }
  }
  shape.parameters = phi3::adapter_parameters(model, adapter);
  const auto wanted = run.compute.saved_activations;
  step.saved.assign(static_cast<size_t>(model.num_layers),
                    wanted == SavedActivations::kAuto ? SavedActivations::kBlock : wanted);
  shape.evaluation = step;
  shape.evaluation_batches = rows.evaluation_longest > 0 ? rows.evaluation_batches : 0;
  return with_micro_batch(std::move(shape), rows, run.schedule.micro_batch_size,
                          run.schedule.gradient_accumulation_steps);
}

RunShape with_micro_batch(RunShape shape, const RowFacts& facts, int64_t rows, int64_t micro_batches) {
  const auto fill = [](StepShape& step, int64_t count, int64_t longest, int64_t trained, int64_t documents) {
    step.tokens = count * longest;
    step.trained_rows = count * (trained > 0 ? trained : longest);
    step.documents = count * documents;
  };
  fill(shape.step, std::min(rows, facts.rows), facts.longest, facts.trained, facts.documents);
  fill(shape.evaluation, std::min(facts.evaluation_rows > 0 ? facts.evaluation_rows : rows, facts.most_evaluation_rows),
       facts.evaluation_longest, facts.evaluation_trained, facts.evaluation_documents);
  shape.micro_batches = micro_batches;
  return shape;
}

RunShape with_saved(RunShape shape, SavedActivations everywhere) {
  std::fill(shape.step.saved.begin(), shape.step.saved.end(), everywhere);
  return shape;
}

void write_micro_batch(const RunShape& shape, const RowFacts& facts, config::RunOptions& run) {
  require(facts.longest > 0 && shape.step.tokens % facts.longest == 0, "a micro-batch is whole rows");
  run.schedule.micro_batch_size = shape.step.tokens / facts.longest;
  run.schedule.gradient_accumulation_steps = shape.micro_batches;
  for (auto& [name, text] : run.resolved) {
    if (name == "micro_batch_size") {
      text = std::to_string(run.schedule.micro_batch_size);
    } else if (name == "gradient_accumulation_steps") {
      text = std::to_string(run.schedule.gradient_accumulation_steps);
    }
  }
}

const char* policy_name(SavedActivations saved) noexcept {
  switch (saved) {
    case SavedActivations::kAuto:
      return "auto";
    case SavedActivations::kNone:
      return "none";
    case SavedActivations::kGateUp:
      return "gate_up";
    case SavedActivations::kAttention:
      return "attention";
    case SavedActivations::kBlock:
      return "block";
    case SavedActivations::kOffload:
      return "offload";
  }
  return "";
}

HostWeights host_weights(const phi3::ModelConfig& model, const WeightShape& weights, size_t element_size) {
  HostWeights bytes;
  const bool as_is = dtype_size(model.torch_dtype) == element_size && model.torch_dtype != "float16";
  const auto add = [&](int64_t elements) {
    (as_is ? bytes.mapped : bytes.held) += static_cast<size_t>(elements) * element_size;
  };
  add(model.vocab_size * model.hidden_size * (model.tie_word_embeddings ? 1 : 2));
  add((2 * model.num_layers + 1) * model.hidden_size);
  for (int kind = 0; kind < phi3::kLinearKinds; ++kind) {
    const auto linear = static_cast<LinearKind>(kind);
    const int64_t out = phi3::linear_out(model, linear);
    const int64_t in = phi3::linear_in(model, linear);
    if (weights.quantize) {
      bytes.held += static_cast<size_t>(model.num_layers) *
                    quant::nf4_layout(out, in, weights.block_size, weights.double_quant).bytes;
    } else {
      add(model.num_layers * out * in);
    }
  }
  if (as_is && !weights.quantize) {
    bytes.mapped -= static_cast<size_t>(weights.changed) * element_size;
    bytes.held += static_cast<size_t>(weights.changed) * element_size;
  }
  return bytes;
}

}  // namespace phi3tune::plan
