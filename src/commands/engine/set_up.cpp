#include "set_up.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "memory_fault.h"
#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/core/text.h"
#include "phi3tune/model/pissa.h"
#include "phi3tune/plan/step_buffers.h"
#include "phi3tune/train/memory.h"
#include "warm_up.h"

namespace phi3tune::commands {
namespace {

std::unique_ptr<model::LoraAdapters> make_adapters(const config::RunOptions& run, const phi3::ModelFolder& folder,
                                                   const phi3::AdapterConfig& config, at::ScalarType dtype,
                                                   std::shared_ptr<model::Arena> arena) {
  auto adapters =
      std::make_unique<model::LoraAdapters>(folder.config(), config, dtype, static_cast<uint64_t>(run.schedule.seed),
                                            run.lora.init == config::LoraOptions::Init::kGaussian, std::move(arena));
  adapters->take_base_weights(folder);
  if (!run.lora.init_adapter.empty()) {
    checkpoint::load_adapter(run.lora.init_adapter, folder.config(), *adapters);
  }
  log_info("adapter: {} modules, {} parameters", adapters->pairs().size(), adapters->count());
  for (const auto& weight : adapters->whole_weights()) {
    log_info("trained whole: {}, {} of these parameters", phi3::whole_module_path(weight.module), weight.value.numel());
  }
  return adapters;
}

// What a run's adapter starts from.
struct Start {
  std::string checkpoint;    // empty: none
  at::Tensor from_the_base;  // PiSSA's parts, once they were found
};

// The adapter becomes the principal part of the base, which is then held without it.
void take_principal_parts(const config::RunOptions& run, const Inputs& inputs, at::ScalarType dtype, Start& start,
                          model::LoraAdapters& adapters) {
  if (run.lora.init != config::LoraOptions::Init::kPissa || !run.lora.init_adapter.empty()) {
    return;
  }
  if (!start.from_the_base.defined()) {
    start.from_the_base =
        start.checkpoint.empty()
            ? model::principal_parts(inputs.folder, adapters,
                                     {dtype, run.lora.pissa_iterations, static_cast<uint64_t>(run.schedule.seed)})
            : checkpoint::read_start(start.checkpoint, adapters);
  }
  adapters.start_from_base(start.from_the_base);
}

std::unique_ptr<model::Phi3Model> load_base(const config::RunOptions& run, const Inputs& inputs, const Compute& compute,
                                            const std::shared_ptr<model::Arena>& arena,
                                            const model::LoraAdapters& adapters) {
  model::Phi3Options options;
  options.compute_dtype = compute.dtype;
  options.quantize = run.method == config::AdapterMethod::kQlora;
  options.nf4.block_size = run.quant.block_size;
  options.nf4.double_quant = run.quant.double_quant;
  options.saved = compute.plan.shape.step.saved;
  options.ranks = compute.plan.shape.step.ranks;
  options.principal = adapters.started_from_base() ? &adapters : nullptr;
  options.dropout = run.lora.dropout;
  options.dropout_seed = static_cast<uint64_t>(run.schedule.seed);
  options.noise_alpha = run.schedule.neftune_noise_alpha.value_or(0.0);
  auto model = std::make_unique<model::Phi3Model>(model::Phi3Model::load(inputs.folder, options, arena));
  log_info("base loaded: {} as held{}; the process was never larger than {}", format_bytes(model->weight_bytes()),
           options.quantize ? ", linears in NF4" : "", format_bytes(train::peak_resident_bytes()));
  return model;
}

// What was being taken when memory ran out.
enum class Taking { kArena, kTraining, kEvaluation };

void stop_here_if_asked() {
  if (stop_requested()) {
    throw Interrupted("stopped before the first step: nothing was trained yet");
  }
}

void take(const config::RunOptions& run, const Inputs& inputs, const phi3::AdapterConfig& adapter_config, Start& start,
          Prepared& prepared, Taking& taking) {
  const auto& compute = prepared.compute;
  taking = Taking::kArena;
  prepared.arena = std::make_shared<model::Arena>(compute.plan.plan);
  touch(*prepared.arena, compute);
  prepared.adapters = make_adapters(run, inputs.folder, adapter_config, compute.dtype, prepared.arena);
  take_principal_parts(run, inputs, compute.dtype, start, *prepared.adapters);
  prepared.model = load_base(run, inputs, compute, prepared.arena, *prepared.adapters);
  prepared.learner = std::make_unique<train::AdapterLearner>(*prepared.model, *prepared.adapters);
  stop_here_if_asked();
  taking = Taking::kTraining;
  try_training(*prepared.learner, compute);
  stop_here_if_asked();
  taking = Taking::kEvaluation;
  try_evaluation(*prepared.learner, compute);
}

bool evaluation_takes_more(const phi3::ModelConfig& model, const plan::RunShape& shape) {
  return shape.evaluation.tokens > 0 &&
         plan::declare_step_buffers(model, shape.evaluation, plan::Purpose::kEvaluate).bytes >
             plan::declare_step_buffers(model, shape.step, plan::Purpose::kTrain).bytes;
}

void resolve(config::RunOptions& run, std::string_view name, int64_t value) {
  for (auto& [setting, text] : run.resolved) {
    if (setting == name) {
      text = std::to_string(value);
    }
  }
}

// The settings for the next try. Throws ResourceError when there is none.
std::string take_less(config::RunOptions& run, const phi3::ModelConfig& model, const Compute& compute, Taking taking,
                      const std::string& fault) {
  const bool evaluation =
      taking == Taking::kEvaluation || (taking == Taking::kArena && evaluation_takes_more(model, compute.plan.shape));
  const auto before = run.schedule;
  // No pass has more rows than there are.
  const auto smaller = [&](const int64_t& rows, int64_t there_are, bool (*halve)(config::RunOptions&)) {
    const int64_t tried = std::min(rows, there_are);
    while (rows >= tried) {
      if (!halve(run)) {
        return false;
      }
    }
    return true;
  };
  if (evaluation && smaller(run.schedule.eval_batch_size, compute.rows.most_evaluation_rows, halve_eval_batch)) {
    return fmt::format("eval_batch_size {} instead of {}", run.schedule.eval_batch_size, before.eval_batch_size);
  }
  if (smaller(run.schedule.micro_batch_size, compute.rows.rows, halve_micro_batch)) {
    return fmt::format(
        "micro_batch_size {} instead of {} and gradient_accumulation_steps {} instead of {}: the rows of "
        "a step stay the same",
        run.schedule.micro_batch_size, before.micro_batch_size, run.schedule.gradient_accumulation_steps,
        before.gradient_accumulation_steps);
  }
  throw ResourceError(
      "{}; with micro_batch_size 1 the run does not fit: a shorter sequence_len, gradient_checkpointing: block, "
      "adapter: "
      "qlora or a smaller lora_r takes less{}",
      fault, evaluation ? ", and so does eval_batch_size: 1" : "");
}

// What the last plan takes with the smaller batches: the next one must not fill the memory again with what the layers
// keep.
size_t bytes_of_smaller(const config::RunOptions& run, const phi3::ModelConfig& model, const Compute& compute) {
  auto rows = compute.rows;
  rows.evaluation_rows = run.schedule.eval_batch_size;
  const auto shape = plan::with_micro_batch(compute.plan.shape, rows, run.schedule.micro_batch_size,
                                            run.schedule.gradient_accumulation_steps);
  return plan::plan_run(model, shape).total() + compute.plan.outside;
}

}  // namespace

bool halve_micro_batch(config::RunOptions& run) {
  auto& schedule = run.schedule;
  const int64_t rows = schedule.micro_batch_size;
  for (int64_t factor = 2; factor <= rows; ++factor) {
    if (rows % factor == 0) {
      schedule.micro_batch_size = rows / factor;
      schedule.gradient_accumulation_steps *= factor;
      resolve(run, "micro_batch_size", schedule.micro_batch_size);
      resolve(run, "gradient_accumulation_steps", schedule.gradient_accumulation_steps);
      return true;
    }
  }
  return false;
}

bool halve_eval_batch(config::RunOptions& run) {
  if (run.schedule.eval_batch_size <= 1) {
    return false;
  }
  run.schedule.eval_batch_size /= 2;
  resolve(run, "eval_batch_size", run.schedule.eval_batch_size);
  return true;
}

Prepared set_up(config::RunOptions& run, const Inputs& inputs, const phi3::AdapterConfig& adapter_config,
                const std::string& start_from) {
  Start start{start_from, {}};
  const auto& model = inputs.folder.config();
  int64_t micro_batch_size_was = 0;
  int64_t eval_batch_size_was = 0;
  size_t at_most = SIZE_MAX;
  for (;;) {
    Prepared prepared;
    prepared.compute = settle_compute(run, model, adapter_config, inputs.dataset, at_most);
    prepared.compute.micro_batch_size_was = micro_batch_size_was;
    prepared.compute.eval_batch_size_was = eval_batch_size_was;
    std::string fault;
    auto taking = Taking::kArena;
    try {
      take(run, inputs, adapter_config, start, prepared, taking);
      return prepared;
    } catch (const std::exception& error) {
      const auto found = memory_fault(error);
      if (!found) {
        throw;
      }
      fault = found->substr(0, found->find(';'));  // the way out is another one here
    }
    const auto before = run.schedule;
    const auto change = take_less(run, model, prepared.compute, taking, fault);
    log_warning("before step 1: {}; tried again with {}", fault, change);
    if (run.schedule.micro_batch_size != before.micro_batch_size && micro_batch_size_was == 0) {
      micro_batch_size_was = before.micro_batch_size;
    }
    if (run.schedule.eval_batch_size != before.eval_batch_size && eval_batch_size_was == 0) {
      eval_batch_size_was = before.eval_batch_size;
    }
    at_most = bytes_of_smaller(run, model, prepared.compute);
  }
}

}  // namespace phi3tune::commands
