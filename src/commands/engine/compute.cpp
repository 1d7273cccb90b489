#include "compute.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/plan/step_buffers.h"

namespace phi3tune::commands {
namespace {

// Part of the free memory that saved activations may take before a run recomputes them.
constexpr double kActivationShare = 0.6;

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

int64_t largest_micro_batch(const config::RunOptions& run, const data::Dataset& dataset) {
  const bool packed = run.data.sample_packing;
  return run.schedule.micro_batch_size * (packed ? run.data.sequence_len : dataset.train_report.longest);
}

uint64_t activation_bytes(const config::RunOptions& run, const phi3::ModelConfig& model,
                          const phi3::AdapterConfig& adapter, const data::Dataset& dataset, at::ScalarType dtype,
                          plan::Purpose purpose) {
  plan::StepShape shape;
  shape.tokens = largest_micro_batch(run, dataset);
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

  const uint64_t saving = activation_bytes(run, model, adapter, dataset, compute.dtype, plan::Purpose::kTrainSaving);
  const uint64_t recomputing =
      activation_bytes(run, model, adapter, dataset, compute.dtype, plan::Purpose::kTrainRecomputing);
  const uint64_t available = available_memory();
  compute.save_activations = run.compute.saved_activations == config::SavedActivations::kNone ||
                             (run.compute.saved_activations == config::SavedActivations::kAuto &&
                              static_cast<double>(saving) <= kActivationShare * static_cast<double>(available));
  compute.activation_bytes = compute.save_activations ? saving : recomputing;
  if (compute.activation_bytes > available) {
    throw ResourceError(
        "activations of {} tokens a micro-batch need {}, and {} are free; use a smaller micro_batch_size or "
        "sequence_len{}",
        largest_micro_batch(run, dataset), format_bytes(compute.activation_bytes), format_bytes(available),
        compute.save_activations ? ", or gradient_checkpointing: block" : "");
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
