// phi3-tune train: from a model folder and records to an adapter that PEFT loads.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "compute.h"
#include "entry.h"
#include "evaluation_sets.h"
#include "inputs.h"
#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/checkpoint/checkpoints.h"
#include "phi3tune/checkpoint/compare_runs.h"
#include "phi3tune/checkpoint/fingerprint.h"
#include "phi3tune/checkpoint/run_folder.h"
#include "phi3tune/commands/engine_api.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/phi3/adapter_options.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/fused_adapter.h"
#include "phi3tune/train/trainer.h"
#include "progress.h"
#include "prompt_log.h"
#include "resume.h"
#include "run_log.h"
#include "run_saver.h"
#include "set_up.h"
#include "train_report.h"
#include "warm_up.h"

namespace phi3tune::commands {
namespace {

// A fresh adapter, or the shape of the one to go on from.
phi3::AdapterConfig settle_adapter(const config::RunOptions& run, const phi3::ModelFolder& base) {
  const auto& model = base.config();
  if (run.lora.init_adapter.empty()) {
    return phi3::adapter_config_for(run.lora, model, run.model.base_model);
  }
  phi3::require_base(run.lora.init_adapter, base, run.lora.any_base);
  auto adapter = phi3::read_fused_config(run.lora.init_adapter, model);
  std::error_code code;
  if (std::filesystem::exists(run.lora.init_adapter + "/" + config::kTrainingStateName, code)) {
    log_warning(
        "lora_model_dir: {} is a checkpoint: its adapter is taken, not its step nor the optimizer's moments; "
        "resume_from_checkpoint goes on exactly",
        run.lora.init_adapter);
  }
  log_info("lora_model_dir: rank {}, alpha {} and target modules are those of {}", adapter.rank, adapter.alpha,
           run.lora.init_adapter);
  adapter.dropout = run.lora.dropout;
  adapter.base_model_name_or_path = run.model.base_model;
  return adapter;
}

phi3::AdapterOrigin origin_of(const config::RunOptions& run, const Inputs& inputs) {
  phi3::AdapterOrigin origin{inputs.folder.fingerprint(), std::nullopt};
  if (run.method == config::AdapterMethod::kQlora && run.lora.init != config::LoraOptions::Init::kPissa) {
    origin.held_in_nf4 = phi3::HeldInNf4{run.quant.block_size, run.quant.double_quant};
  }
  return origin;
}

// What the run is, before it is settled how it computes.
checkpoint::RunRecord describe_run(const config::RunOptions& run, const EngineContext& context, const Inputs& inputs) {
  checkpoint::RunRecord record;
  record.run_name = run.output.run_name;
  record.settings = run.resolved;
  record.versions = checkpoint::versions(context.program_version);
  record.hashes = {{"base", inputs.folder.fingerprint()},
                   {"data", inputs.dataset.fingerprint()},
                   {"tokenizer", inputs.tokenizer.fingerprint()},
                   {"template", hash_bytes(inputs.chat_template.jinja()).hex()},
                   {"program", checkpoint::program_fingerprint()}};
  if (!run.lora.init_adapter.empty()) {
    const auto hash = [&](const char* name) { return checkpoint::hash_file(run.lora.init_adapter + "/" + name); };
    record.hashes.emplace_back("adapter_from", hash("adapter_config.json") + hash("adapter_model.safetensors"));
  }
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

// Names are claimed before a byte is written under them.
void claim_files(checkpoint::RunFolder& folder, const checkpoint::AdapterFiles& files) {
  folder.claim({config::kMetricsName, config::kGenerationsName});
  folder.claim(checkpoint::checkpoint_claims());
  for (const auto& name : checkpoint::adapter_file_names(files)) {
    folder.claim({std::string(config::kAdapterFolder) + "/" + name});
  }
  for (const auto& name : config::report_names()) {  // of `phi3-tune eval`, which may come later
    folder.claim({std::string(config::kReportFolder) + "/" + name});
  }
}

void warn_if_inexact(const checkpoint::RunRecord& then, const checkpoint::RunRecord& now, int64_t steps) {
  for (const auto& line : checkpoint::compare_runs(then, now, steps).inexact) {
    log_warning("going on, not exact to the last bit: {}", line);
  }
}

// The adapter that the run's result is: the last step's, or the best checkpoint's.
void take_best(const checkpoint::Checkpoints& checkpoints, const train::LoopState& state,
               model::LoraAdapters& adapters) {
  if (!state.best || state.best->step == state.result.steps) {
    return;
  }
  try {
    const auto best = checkpoint::verify_checkpoint(checkpoints.path_of(state.best->step));
    checkpoint::load_adapter(best.folder, adapters);
    log_info("load_best_model_at_end: the result is the adapter of step {}", best.step);
  } catch (const CheckpointError& fault) {
    throw CheckpointError(
        "load_best_model_at_end: {}\nload_best_model_at_end: false, with the same command, makes the last step's "
        "adapter "
        "the result",
        fault.what());
  }
}

int say_finished(const checkpoint::RunFolder& folder, bool events) {
  const auto adapter = folder.file(config::kAdapterFolder);
  log_info("output_dir {}: this run is finished; overwrite_output_dir: true makes it again, more steps go on with it",
           folder.path());
  if (events) {
    io::Json event{{"event", "result"}, {"adapter", adapter}};
    event.update(folder.earlier().results);
    fmt::print("{}\n", event.dump());
  } else {
    fmt::print("finished already; adapter: {}\n", adapter);
  }
  return static_cast<int>(ExitCode::kDone);
}

// What the folder's disk must hold is known before a weight is loaded, and again where all checkpoints are kept.
void check_space(const checkpoint::RunFolder& folder, const config::RunOptions& run, const Inputs& inputs,
                 const phi3::AdapterConfig& adapter, int64_t saves) {
  const auto& model = inputs.folder.config();
  const auto there = checkpoint::Checkpoints(folder.file(config::kCheckpointsFolder)).steps().size();
  int64_t parameters = phi3::adapter_parameters(model, adapter);
  if (run.lora.init == config::LoraOptions::Init::kPissa && run.lora.init_adapter.empty()) {
    parameters += (parameters + 1) / 2;  // its start is written beside it, in the result and in every checkpoint
  }
  check_disk_space(folder.path(), parameters, run.save, saves, static_cast<int64_t>(there));
}

// Parameters, moments and the loop as they were.
void take_up(const Start& start, const config::RunOptions& run, const checkpoint::Checkpoints& checkpoints,
             model::LoraAdapters& adapters, train::Trainer& trainer) {
  const auto& from = *start.from;
  auto loop = from.state.loop;
  if (loop.result.ended_early) {
    log_info("early stopping ended this run at step {}: more steps do not go on with it", loop.result.steps);
  }
  if (loop.best && run.save.load_best_model_at_end) {
    try {
      (void)checkpoint::verify_checkpoint(checkpoints.path_of(loop.best->step));
    } catch (const CheckpointError& fault) {
      log_warning("the best evaluation so far, of step {}, has no sound checkpoint ({}); it is judged anew",
                  loop.best->step, fault.what());
      loop.best.reset();
    }
  }
  checkpoint::load_checkpoint(from, adapters, trainer.optimizer().state());
  trainer.resume(loop, from.state.optimizer_step, start.own);
  if (start.own) {
    // What a run that was cut short between its save and the rotation did not get to.
    checkpoints.rotate(from.step, run.save.save_total_limit, loop.best ? std::optional(loop.best->step) : std::nullopt);
  }
}

// By value: what was left to the program is written into the settings.
int train(config::RunOptions run, const EngineContext& context) {
  if (run.schedule.max_time) {
    const auto limit = std::chrono::duration<double>(*run.schedule.max_time);
    stop_at(std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::nanoseconds>(limit));
  }
  const bool events = context.json || run.output.progress == config::OutputOptions::Progress::kJson;
  auto folder = hold_output_folder(run);
  const auto inputs = read_inputs(run);
  auto prompts = read_logged_prompts(run, inputs);
  const auto adapter_config = settle_adapter(run, inputs.folder);
  auto record = describe_run(run, context, inputs);
  const auto start = settle_start(folder, run, record);
  if (start.finished) {
    return say_finished(folder, events);
  }
  checkpoint::AdapterFiles files;
  files.tokenizer_files = inputs.tokenizer.files();
  files.chat_template = inputs.chat_template.jinja();
  files.origin = origin_of(run, inputs);
  checkpoint::require_own_adapter(folder.file(config::kAdapterFolder), files);
  check_space(folder, run, inputs, adapter_config, std::max<int64_t>(2, run.save.save_total_limit));

  const auto asked = run.resolved;
  if (start.from) {
    reuse_settled(start.from->record, run);
  }
  const auto prepared = set_up(run, inputs, adapter_config, start.from ? start.from->folder : "");
  require_answers_on(prepared.compute, prompts);
  auto& adapters = *prepared.adapters;
  record.settings = run.resolved;
  record.requested = changed_settings(asked, run.resolved);
  record.compute = compute_facts(prepared.compute);
  train::ObserverList observers;
  train::Trainer trainer(*prepared.learner, inputs.dataset, evaluation_sets(inputs.dataset),
                         {run.schedule, run.data, run.eval, run.output.logging_steps, run.save}, observers);
  if (start.from) {
    warn_if_inexact(start.from->record, record, start.from->step);
    if (trainer.plan().max_steps < start.from->step) {
      throw ConfigError("{}: made {} steps, and the settings now ask for {}; wanted at least as many",
                        start.from->folder, start.from->step, trainer.plan().max_steps);
    }
  }
  if (run.save.save_total_limit == 0) {
    check_space(folder, run, inputs, adapter_config, trainer.planned_saves());
  }

  // From here on the run is known to be able to start.
  if (start.over) {
    log_info("output_dir {}: what an earlier run wrote there is deleted", folder.path());
    folder.start_over();
  }
  claim_files(folder, files);
  folder.write(record);
  const Ending ending(folder, record);
  const checkpoint::Checkpoints checkpoints(folder.file(config::kCheckpointsFolder));
  if (start.from) {
    take_up(start, run, checkpoints, adapters, trainer);
  }
  RunLog log(folder.file(config::kMetricsName), start.own ? start.from->state.metrics_bytes : 0);
  const auto progress = make_progress(run.output, sinks_of_process(context.json));
  const auto prompt_log = make_prompt_log(run, inputs, std::move(prompts), folder.file(config::kGenerationsName),
                                          start.own ? start.from->state.loop.evaluated_at : -1, *prepared.model,
                                          is_plain(run.output, sinks_of_process(context.json)));
  observers.add(&log);
  observers.add(progress.get());
  if (prompt_log) {
    observers.add(prompt_log.get());
  }
  RunSaver saver(checkpoints, record, adapters, log, run.save);
  const auto counted = device_counters(prepared.compute);
  const auto result = trainer.run(&saver);
  add_device_facts(prepared.compute, counted, record.compute);

  if (result.status == train::TrainStatus::kStopped) {
    record.status = "stopped";
    record.results = results_json(result);
    folder.write(record);
    print_stopped(result, run.save.save_on_signal ? checkpoints.path_of(result.steps) : "", events);
    return static_cast<int>(ExitCode::kInterrupted);
  }
  if (run.save.load_best_model_at_end) {
    take_best(checkpoints, trainer.state(), adapters);
  }
  files.card = model_card(run, context, inputs, adapter_config, result);
  checkpoint::save_adapter(folder.file(config::kAdapterFolder), adapters, files, true);
  record.status = "finished";
  record.compute.emplace_back("arena_bytes used", std::to_string(prepared.arena->high_water()));
  record.results = results_json(result);
  record.results["adapter_files"] =
      measured_files(folder.file(config::kAdapterFolder), checkpoint::adapter_file_names(files));
  folder.write(record);
  print_result(result, folder.file(config::kAdapterFolder), events);
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace
}  // namespace phi3tune::commands

extern "C" int phi3tune_engine_train(const phi3tune::config::RunOptions& run,
                                     const phi3tune::commands::EngineContext& context) {
  return phi3tune::commands::entered(
      "the newest checkpoint is kept; use a smaller micro_batch_size, sequence_len or "
      "lora_r",
      [&] { return phi3tune::commands::train(run, context); });
}
