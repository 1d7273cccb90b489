#include "compute.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <optional>

#include "cuda_plugin.h"
#include "evaluation_sets.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/core/text.h"
#include "phi3tune/data/batching.h"
#include "phi3tune/plan/flops.h"
#include "phi3tune/train/trainer.h"

namespace phi3tune::commands {
namespace {

// Part of the CPU's free memory that a run may take before it computes activations again: the rest caches the files of
// the weights.
constexpr double kMemoryShare = 0.7;

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

void open_device(const config::ComputeOptions& options, Compute& compute) {
  compute.backend = &ops::cpu_backend();
  compute.device = "cpu";
  if (options.device == config::DeviceKind::kCpu) {
    return;
  }
  const auto& plugin = CudaPlugin::of_process();
  const bool wanted = options.device == config::DeviceKind::kCuda;
  if (!plugin.missing().empty()) {
    if (wanted) {
      throw ResourceError("device: cuda:{} was asked for: {}; set device: cpu or auto", options.device_index,
                          plugin.missing());
    }
    // Where there is a driver a GPU was meant to be used.
    if (plugin.found_driver()) {
      log_warning("device: cpu, because {}", plugin.missing());
    } else {
      log_info("device: cpu, because {}", plugin.missing());
    }
    return;
  }
  try {
    compute.backend = &plugin.open(options.device_index);
    compute.device = "cuda:" + std::to_string(options.device_index) + (plugin.rehearses() ? " (rehearsal)" : "");
  } catch (const ResourceError& fault) {
    if (wanted) {
      throw;
    }
    log_warning("device: cpu, because {}", fault.what());
  }
}

// Before a weight is loaded.
void refuse_what_the_device_cannot(const phi3::AdapterConfig& adapter, const Compute& compute) {
  if (!adapter.modules_to_save.empty() && compute.backend->weight_gradient == nullptr) {
    throw ConfigError(
        "lora_modules_to_save: embeddings and heads are not trained on a GPU yet, and the device is {}; take it out, "
        "or "
        "set device: cpu",
        compute.device);
  }
}

struct Largest {
  int64_t tokens = 0, trained = 0, documents = 1, rows = 0;
};
Largest largest_row(std::span<const data::Example> examples, const std::vector<data::Row>& rows) {
  Largest largest;
  largest.rows = static_cast<int64_t>(rows.size());
  for (const auto& row : rows) {
    if (stop_requested()) {
      throw Interrupted("stopped while looking for the longest row: nothing was trained yet");
    }
    const auto batch = data::make_micro_batch(examples, std::span(&row, 1));
    largest.tokens = std::max(largest.tokens, static_cast<int64_t>(batch.input_ids.size()));
    largest.trained = std::max(largest.trained, static_cast<int64_t>(batch.targets.size()));
    largest.documents = std::max(largest.documents, static_cast<int64_t>(batch.sample_ids.size()));
  }
  return largest;
}

plan::RowFacts row_facts(const config::RunOptions& run, const data::Dataset& dataset) {
  plan::RowFacts facts;
  const auto training = largest_row(dataset.train, run.data.sample_packing ? data::pack_rows(dataset.train, run.data)
                                                                           : data::single_rows(dataset.train));
  facts.longest = training.tokens;
  facts.rows = training.rows;
  facts.trained = training.trained;
  facts.documents = training.documents;
  facts.evaluation_rows = run.schedule.eval_batch_size;
  const auto sets = evaluation_sets(dataset);
  facts.most_evaluation_rows = 0;
  for (const auto& set : sets) {
    const auto rows =
        run.data.eval_sample_packing ? data::pack_rows(set.examples, run.data) : data::single_rows(set.examples);
    const auto evaluation = largest_row(set.examples, rows);
    facts.evaluation_longest = std::max(facts.evaluation_longest, evaluation.tokens);
    facts.evaluation_trained = std::max(facts.evaluation_trained, evaluation.trained);
    facts.evaluation_documents = std::max(facts.evaluation_documents, evaluation.documents);
    facts.most_evaluation_rows = std::max(facts.most_evaluation_rows, evaluation.rows);
  }
  facts.evaluation_batches = train::most_evaluation_batches(sets, {run.schedule, run.data, run.eval, 1});
  return facts;
}

std::vector<int64_t> lengths_of(const std::vector<data::Example>& examples) {
  std::vector<int64_t> lengths;
  for (const auto& example : examples) {
    lengths.push_back(static_cast<int64_t>(example.input_ids.size()));
  }
  return lengths;
}

std::string way_out(const plan::Remedies& remedies) {
  std::string text = remedies.together ? "what fits, all of these together: " : "what fits: ";
  bool first = true;
  for (const auto& remedy : remedies.changes) {
    text += fmt::format("{}{} ({})", first ? "" : ", ", remedy.change, format_bytes(remedy.device_bytes));
    first = false;
  }
  return first ? "use a smaller sequence_len, or a smaller model" : text;
}

}  // namespace

at::ScalarType settle_dtype(config::ComputeDType wanted, bool on_gpu) {
  const bool fast = on_gpu || has_fast_bfloat16();
  switch (wanted) {
    case config::ComputeDType::kAuto:
      return fast ? at::kBFloat16 : at::kFloat;
    case config::ComputeDType::kFloat32:
      return at::kFloat;
    case config::ComputeDType::kBFloat16:
      if (!fast) {
        log_warning(
            "bf16: this processor has no avx512_bf16, so bf16 is slower here than fp32; bf16: auto would take fp32");
      }
      return at::kBFloat16;
  }
  return at::kFloat;
}

int usable_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) {
    return 1;
  }
  return std::max(1, CPU_COUNT(&cores));
}

bool has_fast_bfloat16() { return __builtin_cpu_supports("avx512bf16") != 0; }

Compute settle_compute(config::RunOptions& run, const phi3::ModelConfig& model, const phi3::AdapterConfig& adapter,
                       const data::Dataset& dataset, size_t at_most) {
  Compute compute;
  open_device(run.compute, compute);
  ops::choose_backend(*compute.backend);
  const bool on_gpu = compute.backend->extended;
  refuse_what_the_device_cannot(adapter, compute);
  compute.threads = run.compute.threads > 0 ? run.compute.threads : usable_cores();
  at::set_num_threads(compute.threads);
  compute.dtype = settle_dtype(run.compute.dtype, on_gpu);

  plan::PlanContext context;
  context.model = model;
  context.rows = compute.rows = row_facts(run, dataset);
  const auto room = compute.backend->memory.room();
  context.device = {on_gpu, c10::elementSize(compute.dtype), room.multiprocessors};
  auto shape = plan::run_shape(run, model, adapter, context.rows, context.device);

  const size_t free = on_gpu ? room.free : std::min<size_t>(room.free, control_group_room().value_or(SIZE_MAX));
  const size_t allowed = on_gpu ? std::min<size_t>(free, run.compute.gpu_memory_limit.value_or(SIZE_MAX)) : free;
  if (!on_gpu && run.compute.gpu_memory_limit) {
    log_info("gpu_memory_limit: without effect, the run computes on the CPU");
  }
  context.opened = on_gpu && allowed == free;
  context.keys = plan::mean_keys(lengths_of(dataset.train), model.sliding_window);
  const auto saved = run.compute.saved_activations;
  const bool choose = saved == plan::SavedActivations::kAuto;
  context.memory = on_gpu || !choose ? allowed : static_cast<size_t>(kMemoryShare * static_cast<double>(allowed));
  context.memory = std::min(context.memory, at_most);
  const int64_t rows_per_step = run.schedule.micro_batch_size == 0 ? run.schedule.gradient_accumulation_steps : 0;
  compute.plan = plan::settle(context, shape, saved, rows_per_step);
  context.memory = allowed;
  if (rows_per_step > 0 && plan::fits(context, compute.plan)) {
    plan::write_micro_batch(compute.plan.shape, context.rows, run);
    log_info("micro_batch_size: {} in {} passes a step, as the plan says", run.schedule.micro_batch_size,
             run.schedule.gradient_accumulation_steps);
  }
  const size_t pinned = compute.plan.plan.host_bytes;
  if (on_gpu && pinned > ops::cpu_backend().memory.room().free) {
    throw ResourceError(
        "memory: gradient_checkpointing: offload wants {} of the host's memory, {} are free; gradient_checkpointing: "
        "block, or a smaller micro_batch_size, take less",
        format_bytes(pinned), format_bytes(ops::cpu_backend().memory.room().free));
  }
  if (!plan::fits(context, compute.plan)) {
    throw ResourceError("memory: the run takes {} on {}, {} are free; {}", format_bytes(compute.plan.device_bytes()),
                        compute.device, format_bytes(allowed), way_out(plan::what_would_fit(context, shape)));
  }
  return compute;
}

std::vector<std::pair<std::string, std::string>> compute_facts(const Compute& compute) {
  std::vector<std::pair<std::string, std::string>> facts{
      {"device", compute.device},
      {"threads", std::to_string(compute.threads)},
      {"dtype", compute.dtype == at::kBFloat16 ? "bfloat16" : "float32"},
      {"cpu_capability", at::get_cpu_capability()},
      {"gradient_checkpointing", plan::describe_saved(compute.plan.shape.step)},
      {"arena_bytes", std::to_string(compute.plan.plan.total())}};
  for (size_t part = 0; part < plan::kParts; ++part) {
    facts.emplace_back(std::string("arena_bytes: ") + plan::part_name(static_cast<plan::Part>(part)),
                       std::to_string(compute.plan.plan.bytes[part]));
  }
  if (compute.micro_batch_size_was > 0) {
    facts.emplace_back("micro_batch_size halved from", std::to_string(compute.micro_batch_size_was));
  }
  if (compute.eval_batch_size_was > 0) {
    facts.emplace_back("eval_batch_size halved from", std::to_string(compute.eval_batch_size_was));
  }
  return facts;
}

}  // namespace phi3tune::commands
