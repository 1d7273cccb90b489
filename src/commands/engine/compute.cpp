#include "compute.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>

#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/plan/step_buffers.h"

namespace phi3tune::commands {
namespace {

// Part of the free memory that a run may take before it recomputes its activations.
constexpr double kMemoryShare = 0.7;

int usable_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) {
    return 1;
  }
  return std::max(1, CPU_COUNT(&cores));
}

uint64_t available_memory() {
  std::ifstream meminfo("/proc/meminfo");
  std::string line;
  while (std::getline(meminfo, line)) {
    std::istringstream words(line);
    std::string key;
    uint64_t kib = 0;
    if (words >> key >> kib && key == "MemAvailable:") {
      return kib * 1024;
    }
  }
  return static_cast<uint64_t>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// What the control group of this process may still take; nothing where there is no limit.
std::optional<uint64_t> control_group_room() {
  const auto number = [](const char* path) -> std::optional<uint64_t> {
    std::ifstream file(path);
    uint64_t value = 0;
    return file >> value ? std::optional(value) : std::nullopt;  // "max" is no number
  };
  const auto limit = number("/sys/fs/cgroup/memory.max");
  const auto used = number("/sys/fs/cgroup/memory.current");
  return limit && used ? std::optional(*limit > *used ? *limit - *used : 0) : std::nullopt;
}

// Weights that are not used where the file lies, and what the optimizer keeps.
uint64_t held_bytes(const config::RunOptions& run, const phi3::ModelConfig& model, const phi3::AdapterConfig& adapter,
                    at::ScalarType dtype) {
  double linears = 0;
  double adapted = 0;
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (int kind = 0; kind < phi3::kLinearKinds; ++kind) {
      const auto linear = static_cast<phi3::LinearKind>(kind);
      const auto in = static_cast<double>(phi3::linear_in(model, linear));
      const auto out = static_cast<double>(phi3::linear_out(model, linear));
      const auto path = phi3::linear_path(layer, linear);
      linears += in * out;
      adapted += adapter.targets(path) ? static_cast<double>(adapter.rank_of(path)) * (in + out) : 0;
    }
  }
  const auto element = static_cast<double>(c10::elementSize(dtype));
  const double heads = static_cast<double>(model.vocab_size * model.hidden_size) * (model.tie_word_embeddings ? 1 : 2);
  const bool mapped = model.torch_dtype == (dtype == at::kBFloat16 ? "bfloat16" : "float32");
  double bytes = mapped ? 0 : heads * element;
  if (run.method == config::AdapterMethod::kQlora || model.quantization) {
    bytes += linears * (0.5 + (run.quant.double_quant ? 1.0 : 4.0) / static_cast<double>(run.quant.block_size));
    bytes += linears / static_cast<double>(model.num_layers) * element;  // one layer's scratch
  } else if (!mapped) {
    bytes += linears * element;
  }
  bytes += adapted * (16 + (dtype == at::kFloat ? 0 : element));  // value, gradient, two moments; compute copy
  return static_cast<uint64_t>(bytes);
}

int64_t largest_micro_batch(const config::RunOptions& run, const data::Dataset& dataset) {
  const bool packed = run.data.sample_packing;
  return run.schedule.micro_batch_size * (packed ? run.data.sequence_len : dataset.train_report.longest);
}

int64_t largest_evaluation_batch(const config::RunOptions& run, const data::Dataset& dataset) {
  const int64_t rows = run.schedule.eval_batch_size > 0 ? run.schedule.eval_batch_size : run.schedule.micro_batch_size;
  int64_t longest = 0;
  for (const auto& example : dataset.validation) {
    longest = std::max(longest, static_cast<int64_t>(example.input_ids.size()));
  }
  return rows * (run.data.eval_sample_packing && longest > 0 ? run.data.sequence_len : longest);
}

uint64_t activation_bytes(const phi3::ModelConfig& model, const phi3::AdapterConfig& adapter, int64_t tokens,
                          at::ScalarType dtype, plan::Purpose purpose) {
  plan::StepShape shape;
  shape.tokens = tokens;
  shape.trained_rows = shape.tokens;
  shape.head_chunk = 1024;
  shape.element_size = c10::elementSize(dtype);
  shape.dropout = adapter.dropout > 0;
  shape.ranks.resize(static_cast<size_t>(model.num_layers));
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (int kind = 0; kind < phi3::kLinearKinds; ++kind) {
      const auto path = phi3::linear_path(layer, static_cast<phi3::LinearKind>(kind));
      shape.ranks[static_cast<size_t>(layer)][static_cast<size_t>(kind)] =
          adapter.targets(path) ? adapter.rank_of(path) : 0;
    }
  }
  return plan::declare_step_buffers(model, shape, purpose).bytes;
}

}  // namespace

bool has_fast_bfloat16() { return __builtin_cpu_supports("avx512bf16") != 0; }

Compute settle_compute(const config::RunOptions& run, const phi3::ModelConfig& model,
                       const phi3::AdapterConfig& adapter, const data::Dataset& dataset) {
  if (run.compute.device == config::DeviceKind::kCuda) {
    throw ResourceError(
        "device: cuda:{} was asked for, and this build computes on the CPU only; set device: cpu or auto",
        run.compute.device_index);
  }
  Compute compute;
  compute.device = "cpu";
  compute.threads = run.compute.threads > 0 ? run.compute.threads : usable_cores();
  at::set_num_threads(compute.threads);
  switch (run.compute.dtype) {
    case config::ComputeDType::kAuto:
      compute.dtype = has_fast_bfloat16() ? at::kBFloat16 : at::kFloat;
      break;
    case config::ComputeDType::kFloat32:
      compute.dtype = at::kFloat;
      break;
    case config::ComputeDType::kBFloat16:
      compute.dtype = at::kBFloat16;
      if (!has_fast_bfloat16()) {
        log_warning(
            "bf16: this processor has no avx512_bf16, so bf16 is slower here than fp32; bf16: auto would take fp32");
      }
      break;
  }

  const int64_t tokens = largest_micro_batch(run, dataset);
  const uint64_t saving = activation_bytes(model, adapter, tokens, compute.dtype, plan::Purpose::kTrainSaving);
  const uint64_t recomputing =
      activation_bytes(model, adapter, tokens, compute.dtype, plan::Purpose::kTrainRecomputing);
  const uint64_t evaluating =
      activation_bytes(model, adapter, largest_evaluation_batch(run, dataset), compute.dtype, plan::Purpose::kEvaluate);
  const uint64_t held = held_bytes(run, model, adapter, compute.dtype);
  const uint64_t free = std::min(available_memory(), control_group_room().value_or(UINT64_MAX));
  compute.save_activations =
      run.compute.saved_activations == config::SavedActivations::kNone ||
      (run.compute.saved_activations == config::SavedActivations::kAuto &&
       static_cast<double>(held) + static_cast<double>(saving) <= kMemoryShare * static_cast<double>(free));
  compute.activation_bytes = compute.save_activations ? saving : recomputing;
  const uint64_t needed = held + std::max(compute.activation_bytes, evaluating);
  if (needed > free) {
    throw ResourceError(
        "memory: weights and adapter need {}, the activations of {} tokens a micro-batch {} ({} evaluating), and {} "
        "are free; use a "
        "smaller micro_batch_size, eval_batch_size or sequence_len{}{}",
        format_bytes(held), tokens, format_bytes(compute.activation_bytes), format_bytes(evaluating),
        format_bytes(free), compute.save_activations ? ", gradient_checkpointing: block" : "",
        run.method == config::AdapterMethod::kLora ? ", or adapter: qlora" : "");
  }
  return compute;
}

std::vector<std::pair<std::string, std::string>> compute_facts(const Compute& compute) {
  return {{"device", compute.device},
          {"threads", std::to_string(compute.threads)},
          {"dtype", compute.dtype == at::kBFloat16 ? "bfloat16" : "float32"},
          {"cpu_capability", at::get_cpu_capability()},
          {"gradient_checkpointing", compute.save_activations ? "none" : "block"},
          {"activation_bytes", std::to_string(compute.activation_bytes)}};
}

}  // namespace phi3tune::commands
