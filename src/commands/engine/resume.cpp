#include "resume.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>

#include "phi3tune/checkpoint/checkpoints.h"
#include "phi3tune/checkpoint/compare_runs.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;
using Resume = config::SaveOptions::Resume;

bool exists(const std::string& path) {
  std::error_code code;
  return fs::exists(path, code);
}

bool same_path(const std::string& a, const std::string& b) {
  std::error_code code;
  return fs::equivalent(a, b, code);
}

std::string listed(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) {
    text += "\n" + line;
  }
  return text;
}

[[noreturn]] void refuse(const std::string& what, const checkpoint::RunDifferences& differences) {
  throw ConfigError(
      "{} cannot be gone on with: {} changed since; set it back, name another output_dir, or set overwrite_output_dir: "
      "true to start again there (more steps, where things lie, what is saved and how it is shown may change){}",
      what, differences.refused.size() == 1 ? "something" : "several things", listed(differences.refused));
}

bool changes(const checkpoint::RunDifferences& differences, std::string_view setting) {
  const auto starts = [&](const std::string& line) { return line.starts_with(std::string(setting) + ":"); };
  return std::any_of(differences.allowed.begin(), differences.allowed.end(), starts);
}

// A named checkpoint, for a run of its own folder.
Start start_from(const std::string& path, const checkpoint::RunRecord& now) {
  Start start;
  start.from = checkpoint::verify_checkpoint(path);
  const auto differences = checkpoint::compare_runs(start.from->record, now, start.from->step);
  if (!differences.refused.empty()) {
    refuse("resume_from_checkpoint " + path, differences);
  }
  log_info("going on from {} in a folder of its own; what is the best evaluation is judged anew", start.from->folder);
  start.from->state.loop.best.reset();
  start.from->state.loop.stale_evaluations = 0;
  return start;
}

// A named checkpoint of the run itself may be its newest alone, unless this command has named it all along.
void check_named(const std::string& path, const checkpoint::Checkpoints& checkpoints,
                 const std::optional<checkpoint::VerifiedCheckpoint>& newest, const checkpoint::RunRecord& now) {
  const auto* then = newest ? checkpoint::find_fact(newest->record.settings, "resume_from_checkpoint") : nullptr;
  const auto* named = checkpoint::find_fact(now.settings, "resume_from_checkpoint");
  if (then != nullptr && named != nullptr && *then == *named) {
    return;
  }
  for (const int64_t step : checkpoints.steps()) {
    if (same_path(path, checkpoints.path_of(step)) && (!newest || newest->step != step)) {
      throw ConfigError(
          "resume_from_checkpoint {}: not the newest sound one of its run; to go back to it, name another output_dir",
          path);
    }
  }
}

// Whether `path` is `folder` or lies in it.
bool lies_in(const std::string& path, const std::string& folder) {
  std::error_code code;
  const auto relative = fs::weakly_canonical(path, code).lexically_relative(fs::weakly_canonical(folder, code));
  return !path.empty() && !relative.empty() && *relative.begin() != "..";
}

// What the run reads must not be deleted for it.
void check_apart(const config::RunOptions& run) {
  const std::pair<const char*, const std::string*> inputs[]{{"resume_from_checkpoint", &run.save.resume_path},
                                                            {"lora_model_dir", &run.lora.init_adapter},
                                                            {"tokenizer_path", &run.model.tokenizer_path},
                                                            {"base_model", &run.model.base_model}};
  for (const auto& [name, path] : inputs) {
    if (lies_in(*path, run.output.output_dir)) {
      throw ConfigError(
          "{}: {} lies in output_dir, where overwrite_output_dir would delete it; name another output_dir", name,
          *path);
    }
  }
}

}  // namespace

checkpoint::RunFolder hold_output_folder(const config::RunOptions& run) {
  const std::string& path = run.output.output_dir;
  const bool overwrite = run.output.overwrite_output_dir;
  if (exists(path + "/" + config::kRecordName) && (overwrite || run.save.resume != Resume::kNever)) {
    return checkpoint::RunFolder::reopen(path, overwrite);
  }
  return checkpoint::RunFolder::prepare(path, overwrite);
}

Start settle_start(const checkpoint::RunFolder& folder, const config::RunOptions& run,
                   const checkpoint::RunRecord& now) {
  const bool overwrite = run.output.overwrite_output_dir;
  if (!folder.reopened()) {
    return run.save.resume == Resume::kPath ? start_from(run.save.resume_path, now) : Start{};
  }
  const auto again = [&] {
    check_apart(run);
    auto start = run.save.resume == Resume::kPath ? start_from(run.save.resume_path, now) : Start{};
    start.over = true;
    return start;
  };
  if (run.save.resume == Resume::kNever) {
    return again();
  }

  const checkpoint::Checkpoints checkpoints(folder.file(config::kCheckpointsFolder));
  auto found = checkpoints.find_newest();
  if (run.save.resume == Resume::kPath) {
    check_named(run.save.resume_path, checkpoints, found.newest, now);
  }
  const auto& then = found.newest ? found.newest->record : folder.earlier();
  const int64_t steps = found.newest ? found.newest->step : 0;
  const auto differences = checkpoint::compare_runs(then, now, steps);
  const bool finished = folder.earlier().status == "finished" && !changes(differences, "max_steps") &&
                        !changes(differences, "num_epochs") && !changes(differences, "load_best_model_at_end") &&
                        exists(folder.file(config::kAdapterFolder));
  const bool none_sound = !found.newest && !found.skipped.empty();
  if (overwrite && (!differences.refused.empty() || finished || none_sound)) {
    return again();
  }
  if (!differences.refused.empty()) {
    refuse("output_dir " + folder.path() + ": the run there", differences);
  }
  for (const auto& line : found.skipped) {
    log_warning("passed over: {}", line);
  }
  Start start;
  start.finished = finished;
  if (finished) {
    checkpoints.clean();  // a deletion that a power cut took back
    return start;
  }
  if (none_sound) {
    throw CheckpointError(
        "output_dir {}: none of its {} checkpoints is sound, so there is nothing to go on from; overwrite_output_dir: "
        "true starts again{}",
        folder.path(), found.skipped.size(), listed(found.skipped));
  }
  if (!found.newest && folder.earlier().status == "finished") {
    throw CheckpointError(
        "output_dir {}: the run there is finished and its checkpoints are gone, so there is nothing to go on from; "
        "lora_model_dir: {} trains on from its result in another output_dir, overwrite_output_dir: true starts again",
        folder.path(), folder.file(config::kAdapterFolder));
  }
  checkpoints.clean();
  if (!found.newest && run.save.resume == Resume::kPath) {
    return start_from(run.save.resume_path, now);
  }
  if (!found.newest) {
    log_info("output_dir {}: an earlier session saved no checkpoint: starting from the beginning", folder.path());
    return start;
  }
  start.from = std::move(found.newest);
  start.own = true;
  log_info("going on from {}", start.from->folder);
  for (const auto& line : differences.allowed) {
    log_info("changed since: {}", line);
  }
  return start;
}

void reuse_settled(const checkpoint::RunRecord& then, config::RunOptions& run) {
  auto& compute = run.compute;
  if (const auto* device = checkpoint::find_fact(then.compute, "device");
      device != nullptr && compute.device == config::DeviceKind::kAuto) {
    const bool on_gpu = device->starts_with("cuda:");
    compute.device = on_gpu ? config::DeviceKind::kCuda : config::DeviceKind::kCpu;
    compute.device_index = on_gpu ? std::atoi(device->c_str() + 5) : 0;
  }
  if (const auto* threads = checkpoint::find_fact(then.compute, "threads");
      threads != nullptr && compute.threads == 0) {
    compute.threads = static_cast<int>(parse_int(*threads).value_or(0));
  }
  if (const auto* dtype = checkpoint::find_fact(then.compute, "dtype");
      dtype != nullptr && compute.dtype == config::ComputeDType::kAuto) {
    compute.dtype = *dtype == "bfloat16" ? config::ComputeDType::kBFloat16 : config::ComputeDType::kFloat32;
  }
  using Saved = config::SavedActivations;
  static constexpr std::pair<std::string_view, Saved> kPolicies[]{{"none", Saved::kNone},
                                                                  {"gate_up", Saved::kGateUp},
                                                                  {"attention", Saved::kAttention},
                                                                  {"block", Saved::kBlock},
                                                                  {"offload", Saved::kOffload}};
  // A mix of policies is chosen again: all of them give the same bits.
  if (const auto* saved = checkpoint::find_fact(then.compute, "gradient_checkpointing");
      saved != nullptr && compute.saved_activations == Saved::kAuto) {
    for (const auto& [name, policy] : kPolicies) {
      compute.saved_activations = *saved == name ? policy : compute.saved_activations;
    }
  }
  auto& schedule = run.schedule;
  const std::pair<const char*, int64_t*> rows[]{{"micro_batch_size", &schedule.micro_batch_size},
                                                {"gradient_accumulation_steps", &schedule.gradient_accumulation_steps},
                                                {"eval_batch_size", &schedule.eval_batch_size}};
  for (const auto& [name, value] : rows) {
    const auto* asked = checkpoint::find_fact(then.requested, name);
    const auto* settled = checkpoint::find_fact(then.settings, name);
    const auto number = settled == nullptr ? std::nullopt : parse_int(*settled);
    for (auto& [setting, text] : run.resolved) {
      if (setting == name && asked != nullptr && *asked == text && number) {
        *value = *number;
        text = *settled;
      }
    }
  }
}

checkpoint::Facts changed_settings(const checkpoint::Facts& asked, const checkpoint::Facts& settled) {
  checkpoint::Facts changed;
  for (const auto& [name, text] : asked) {
    if (const auto* now = checkpoint::find_fact(settled, name); now != nullptr && *now != text) {
      changed.emplace_back(name, text);
    }
  }
  return changed;
}

}  // namespace phi3tune::commands
