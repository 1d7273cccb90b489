#include "commands/front/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "commands/front/plan_report.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/phi3/adapter_options.h"
#include "phi3tune/phi3/fused_adapter.h"

namespace phi3tune::commands {
namespace {

using plan::SavedActivations;

constexpr int64_t kMostRows = 1 << 20;
constexpr size_t kFloat = 4;
constexpr size_t kBFloat16 = 2;

phi3::ModelConfig read_model(const std::string& folder) {
  std::error_code code;
  if (!std::filesystem::is_directory(folder, code)) {
    throw ModelError("base_model: {} is no folder; wanted one with config.json (weights are not needed for a plan)",
                     folder);
  }
  return phi3::read_model_config(folder);
}

phi3::AdapterConfig read_adapter(const config::RunOptions& run, const phi3::ModelConfig& model) {
  if (run.lora.init_adapter.empty()) {
    return phi3::adapter_config_for(run.lora, model, run.model.base_model);
  }
  auto adapter = phi3::read_fused_config(run.lora.init_adapter, model);
  adapter.dropout = run.lora.dropout;
  return adapter;
}

// What the engine settles on: bf16 on a GPU, and on a processor that multiplies it faster than fp32.
size_t element_size(const config::ComputeOptions& compute, bool gpu) {
  switch (compute.dtype) {
    case config::ComputeDType::kFloat32:
      return kFloat;
    case config::ComputeDType::kBFloat16:
      return kBFloat16;
    case config::ComputeDType::kAuto:
      break;
  }
  return gpu || __builtin_cpu_supports("avx512bf16") != 0 ? kBFloat16 : kFloat;
}

// The smallest of what the command line, the settings and the GPU itself allow.
void set_limit(const PlanOptions& options, PlanReport& report) {
  auto& context = report.context;
  const auto lower = [&](uint64_t bytes, std::string whose) {
    if (bytes < context.memory) {
      context.memory = bytes;
      report.limit = std::move(whose);
    }
  };
  if (!options.device_memory.empty()) {
    const auto bytes = parse_bytes(options.device_memory);
    if (!bytes) {
      throw ConfigError("--device-memory: found \"{}\"; wanted a size such as 8GiB", options.device_memory);
    }
    lower(*bytes, "--device-memory");
  } else if (context.gpu != nullptr) {
    lower(context.gpu->memory, fmt::format("the memory of one {}", context.gpu->title));
  }
  if (context.device.gpu && report.run.compute.gpu_memory_limit) {
    lower(*report.run.compute.gpu_memory_limit, "gpu_memory_limit");
  }
}

void set_device(const PlanOptions& options, PlanReport& report) {
  auto& context = report.context;
  context.device.gpu = report.run.compute.device != config::DeviceKind::kCpu;
  if (!options.gpu.empty() && !context.device.gpu) {
    throw ConfigError("--gpu {}: the settings say device: cpu; take one of the two out", options.gpu);
  }
  context.device.element_size = element_size(report.run.compute, context.device.gpu);
  context.gpu = options.gpu.empty() ? nullptr : plan::find_gpu(options.gpu);
  context.device.multiprocessors = context.gpu != nullptr ? context.gpu->multiprocessors : 0;
  report.timed = context.gpu != nullptr && context.device.element_size == kBFloat16;
}

void name_assumptions(PlanReport& report) {
  const auto& context = report.context;
  auto& list = report.assumptions;
  list.push_back(fmt::format("data are not read: every row {} {} tokens of one document, all trained",
                             report.run.data.sample_packing ? "is filled with" : "has sequence_len,",
                             context.rows.longest));
  if (!context.device.gpu) {
    list.push_back("mapped weights may be dropped and read again by the system, so they are not counted");
    return;
  }
  if (report.run.compute.device == config::DeviceKind::kAuto) {
    list.push_back("device: auto is planned for a GPU; --device cpu plans for the processor");
  }
  list.push_back(fmt::format(
      "libraries: attention's own buffers on {} multiprocessors, 64 MiB of cuBLASLt's, 448 MiB for the CUDA context",
      context.gpu != nullptr ? fmt::format("{}", context.gpu->multiprocessors)
                             : fmt::format("up to {}", plan::kMostMultiprocessors)));
}

std::vector<PolicyRow> compare_policies(const PlanReport& report) {
  std::vector<PolicyRow> rows;
  for (const auto saved : {SavedActivations::kNone, SavedActivations::kGateUp, SavedActivations::kAttention,
                           SavedActivations::kBlock, SavedActivations::kOffload}) {
    if (saved == SavedActivations::kOffload && !report.context.device.gpu) {
      continue;  // the host's memory is the device's
    }
    const auto& shape = report.candidate.shape;
    PolicyRow row{saved, plan::evaluate(report.context, plan::with_saved(shape, saved)), std::nullopt};
    if (!report.limit.empty()) {
      row.largest_micro_batch = plan::largest_micro_batch(report.context, shape, saved, kMostRows);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

PlanReport make_report(const PlanOptions& options) {
  PlanReport report;
  report.run = config::load_settings(options.sources);
  for (const auto& note : report.run.notes) {
    log_info("{}", note);
  }
  const auto& run = report.run;
  auto& context = report.context;
  context.model = read_model(run.model.base_model);
  context.rows = plan::RowFacts::assumed(run);
  context.keys = plan::mean_keys(std::vector<int64_t>{context.rows.longest}, context.model.sliding_window);
  set_device(options, report);
  set_limit(options, report);
  const auto adapter = read_adapter(run, context.model);
  const auto shape = plan::run_shape(run, context.model, adapter, context.rows, context.device);
  const bool choose_rows = run.schedule.micro_batch_size == 0;
  report.candidate = plan::settle(context, shape, run.compute.saved_activations,
                                  choose_rows ? run.schedule.gradient_accumulation_steps : 0);
  report.fits = plan::fits(context, report.candidate);
  report.policies = compare_policies(report);
  if (!report.fits) {
    report.remedies = plan::what_would_fit(context, report.candidate.shape);
  }
  name_assumptions(report);
  return report;
}

}  // namespace

std::vector<std::string> plan_gpu_names() {
  std::vector<std::string> names;
  for (const auto& gpu : plan::known_gpus()) {
    names.push_back(gpu.name);
  }
  return names;
}

int run_plan(const PlanOptions& options) {
  const auto report = make_report(options);
  std::fputs((options.json ? plan_json(report).dump() + "\n" : plan_text(report)).c_str(), stdout);
  if (!report.fits) {
    std::fflush(stdout);
    throw ResourceError("{}", plan_refusal(report));
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace phi3tune::commands
