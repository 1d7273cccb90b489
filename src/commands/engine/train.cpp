// phi3-tune train: from a model folder and records to an adapter that PEFT loads.
#include <ATen/ATen.h>

#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compute.h"
#include "evaluation_sets.h"
#include "inputs.h"
#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/checkpoint/fingerprint.h"
#include "phi3tune/checkpoint/run_folder.h"
#include "phi3tune/commands/engine_api.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/model/adapter_options.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/train/memory.h"
#include "phi3tune/train/trainer.h"
#include "progress.h"
#include "run_log.h"
#include "train_report.h"
#include "warm_up.h"

namespace phi3tune::commands {
namespace {

constexpr const char* kAdapterFolder = "adapter";
constexpr const char* kMetricsFile = "metrics.jsonl";

// A fresh adapter, or the shape of the one to go on from.
phi3::AdapterConfig settle_adapter(const config::RunOptions& run, const phi3::ModelConfig& model) {
  if (run.lora.init_adapter.empty()) {
    return model::adapter_config_for(run.lora, model, run.model.base_model);
  }
  auto adapter = phi3::read_adapter_config(run.lora.init_adapter);
  log_info("lora_model_dir: rank {}, alpha {} and target modules are those of {}", adapter.rank, adapter.alpha,
           run.lora.init_adapter);
  adapter.dropout = run.lora.dropout;
  adapter.base_model_name_or_path = run.model.base_model;
  return adapter;
}

std::unique_ptr<model::LoraAdapters> make_adapters(const config::RunOptions& run, const phi3::ModelConfig& model,
                                                   const phi3::AdapterConfig& config, at::ScalarType dtype,
                                                   std::shared_ptr<model::Arena> arena) {
  auto adapters =
      std::make_unique<model::LoraAdapters>(model, config, dtype, static_cast<uint64_t>(run.schedule.seed),
                                            run.lora.init == config::LoraOptions::Init::kGaussian, std::move(arena));
  if (!run.lora.init_adapter.empty()) {
    checkpoint::load_adapter(run.lora.init_adapter, *adapters);
  }
  log_info("adapter: {} modules, {} parameters", adapters->pairs().size(), adapters->count());
  return adapters;
}

model::Phi3Model load_base(const config::RunOptions& run, const Inputs& inputs, const Compute& compute,
                           const std::shared_ptr<model::Arena>& arena) {
  model::Phi3Options options;
  options.compute_dtype = compute.dtype;
  options.quantize = run.method == config::AdapterMethod::kQlora;
  options.nf4.block_size = run.quant.block_size;
  options.nf4.double_quant = run.quant.double_quant;
  options.saved = compute.plan.shape.step.saved;
  options.ranks = compute.plan.shape.step.ranks;
  options.dropout = run.lora.dropout;
  options.dropout_seed = static_cast<uint64_t>(run.schedule.seed);
  auto model = model::Phi3Model::load(inputs.folder, options, arena);
  log_info("base loaded: {} as held{}; the process was never larger than {}", format_bytes(model.weight_bytes()),
           options.quantize ? ", linears in NF4" : "", format_bytes(train::peak_resident_bytes()));
  return model;
}

checkpoint::RunRecord describe_run(const config::RunOptions& run, const EngineContext& context, const Inputs& inputs,
                                   const Compute& compute) {
  checkpoint::RunRecord record;
  record.run_name = run.output.run_name;
  record.settings = run.resolved;
  record.versions = checkpoint::versions(context.program_version);
  record.hashes = {{"base", inputs.folder.fingerprint()},
                   {"data", inputs.dataset.fingerprint()},
                   {"tokenizer", inputs.tokenizer.fingerprint()},
                   {"template", hash_bytes(inputs.chat_template.jinja()).hex()},
                   {"program", checkpoint::program_fingerprint()}};
  record.compute = compute_facts(compute);
  return record;
}

// The record says how the run ended, whatever ends it.
class Ending {
 public:
  Ending(checkpoint::RunFolder& folder, checkpoint::RunRecord& record) : folder_(folder), record_(record) {}
  Ending(const Ending&) = delete;
  Ending& operator=(const Ending&) = delete;
  ~Ending() {
    if (record_.status != "running") {
      return;
    }
    record_.status = "failed";
    try {
      folder_.write(record_);
    } catch (const std::exception& fault) {
      log_warning("{}", fault.what());  // the error that ends the run is on its way and says more
    }
  }

 private:
  checkpoint::RunFolder& folder_;
  checkpoint::RunRecord& record_;
};

// By value: what was left to the plan is written into the settings.
int train(config::RunOptions run, const EngineContext& context) {
  std::optional<checkpoint::RunFolder> folder;
  if (!run.output.overwrite_output_dir) {
    folder.emplace(checkpoint::RunFolder::prepare(run.output.output_dir, false));
  }
  const auto inputs = read_inputs(run);
  const auto adapter_config = settle_adapter(run, inputs.folder.config());
  const auto compute = settle_compute(run, inputs.folder.config(), adapter_config, inputs.dataset);
  const auto arena = std::make_shared<model::Arena>(compute.plan.plan);
  const auto adapters = make_adapters(run, inputs.folder.config(), adapter_config, compute.dtype, arena);
  if (!folder) {
    // What an earlier run left is deleted only now, when this one is known to be able to start.
    folder.emplace(checkpoint::RunFolder::prepare(run.output.output_dir, true));
  }

  auto record = describe_run(run, context, inputs, compute);
  checkpoint::AdapterFiles files;
  files.tokenizer_files = inputs.tokenizer.files();
  files.chat_template = inputs.chat_template.jinja();
  folder->claim({kMetricsFile});
  for (const auto& name : checkpoint::adapter_file_names(files)) {
    folder->claim({std::string(kAdapterFolder) + "/" + name});
  }
  folder->write(record);
  const Ending ending(*folder, record);

  auto model = load_base(run, inputs, compute, arena);
  train::AdapterLearner learner(model, *adapters);
  warm_up(learner, *arena, compute);
  RunLog log(folder->file(kMetricsFile));
  const auto progress = make_progress(run.output, sinks_of_process(context.json));
  train::ObserverList observers;
  observers.add(&log);
  observers.add(progress.get());
  train::Trainer trainer(learner, inputs.dataset, evaluation_sets(inputs.dataset),
                         {run.schedule, run.data, run.eval, run.output.logging_steps}, observers);
  const auto counted = device_counters(compute);
  const auto result = trainer.run();
  add_device_facts(compute, counted, record.compute);

  const bool finished = result.status == train::TrainStatus::kFinished;
  if (result.steps == 0) {
    require(!finished, "a run that ends has made a step");
    record.status = "stopped";
    folder->write(record);
    log_info("stopped before the first step: there is nothing to save");
    return static_cast<int>(ExitCode::kInterrupted);
  }
  files.card = model_card(run, context, inputs, adapter_config, result);
  checkpoint::save_adapter(folder->file(kAdapterFolder), *adapters, files);
  record.status = finished ? "finished" : "stopped";
  record.compute.emplace_back("arena_bytes used", std::to_string(arena->high_water()));
  record.results = results_json(result);
  folder->write(record);
  const bool events = context.json || run.output.progress == config::OutputOptions::Progress::kJson;
  print_result(result, folder->file(kAdapterFolder), events);
  return static_cast<int>(finished ? ExitCode::kDone : ExitCode::kInterrupted);
}

}  // namespace
}  // namespace phi3tune::commands

extern "C" int phi3tune_engine_train(const phi3tune::config::RunOptions& run,
                                     const phi3tune::commands::EngineContext& context) {
  using namespace phi3tune;
  try {
    return commands::train(run, context);
  } catch (const std::bad_alloc&) {
    throw ResourceError("memory ran out; use a smaller micro_batch_size, sequence_len or lora_r");
  } catch (const c10::Error& fault) {
    const std::string what = fault.what_without_backtrace();
    const std::string first_line = what.substr(0, what.find('\n'));
    const auto says = [&](const char* text) { return what.find(text) != std::string::npos; };
    if (says("allocate memory") || says("out of memory")) {
      throw ResourceError("memory ran out ({}); use a smaller micro_batch_size, sequence_len or lora_r", first_line);
    }
    if (says("CUDA error") || says("CUDA driver error")) {
      throw ResourceError(
          "the GPU reports a fault: {}; CUDA_LAUNCH_BLOCKING=1 shows the op that met it, `dmesg | grep -i xid` a fault "
          "of the hardware",
          first_line);
    }
    throw InternalError("internal error, please report it: {}", first_line);
  }
}
