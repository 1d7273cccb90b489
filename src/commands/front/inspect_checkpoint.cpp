#include <algorithm>
#include <optional>
#include <string_view>

#include "commands/front/inspect_run.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/phi3/adapter_folder.h"
#include "phi3tune/phi3/checkpoint_folder.h"

namespace phi3tune::commands {
namespace {

using io::Json;

void add_lines(std::vector<std::string>& lines, std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

bool names_one(const std::string& fault, const std::string& folder, const char* file) {
  return fault.starts_with(folder + "/" + file + ":");
}

// The loop's state, where it is as it was written.
void describe_state(const std::string& folder, Json& json) {
  const auto state = io::read_json_file<CheckpointError>(folder + "/" + config::kTrainingStateName);
  const Json::json_pointer result("/loop/result");
  if (!state.contains(result)) {
    throw CheckpointError("{}/{}: there is no result of the loop in it", folder, config::kTrainingStateName);
  }
  for (const char* name : {"epoch", "last_loss", "trained_tokens", "tokens", "training_seconds"}) {
    json[name] = state.at(result).value(name, Json(nullptr));
  }
  const auto best = state.value("/loop/best"_json_pointer, Json(nullptr));
  json["best_step"] = best.is_object() ? best.value("step", Json(nullptr)) : Json(nullptr);
}

void describe_adapter_of(const phi3::AdapterFolder& adapter, Json& json) {
  const auto& config = adapter.config();
  json["base"] = config.base_model_name_or_path.empty() ? Json(nullptr) : Json(config.base_model_name_or_path);
  json["rank"] = config.rank;
  json["alpha"] = config.alpha;
  json["modules"] = adapter.modules().size();
  int64_t parameters = 0;
  for (const auto& entry : adapter.file().header().tensors) {
    parameters += entry.numel();
  }
  json["parameters"] = parameters;
}

// What can be used of a checkpoint with these faults. `vouched`: the manifest says what the files were.
std::string usable_of(const std::string& folder, const std::vector<std::string>& faults, bool vouched, bool readable) {
  const auto of_adapter = [&](const std::string& fault) {
    return names_one(fault, folder, config::kAdapterConfigName) ||
           names_one(fault, folder, config::kAdapterTensorsName);
  };
  if (!readable || std::any_of(faults.begin(), faults.end(), of_adapter)) {
    return "nothing of it can be used";
  }
  if (!vouched) {
    return "the adapter can be read, but nothing says that its bytes are those that were written; lora_model_dir can "
           "go on from it at your own risk";
  }
  const bool optimizer_alone = std::all_of(faults.begin(), faults.end(), [&](const std::string& fault) {
    return names_one(fault, folder, config::kOptimizerName);
  });
  return std::string(optimizer_alone ? "only the optimizer's state is damaged; " : "") +
         "the adapter itself is whole: lora_model_dir can go on from it";
}

}  // namespace

Inspected inspect_checkpoint(const std::string& folder) {
  Inspected inspected;
  inspected.json["kind"] = "checkpoint";
  inspected.json["path"] = folder;
  bool vouched = false;
  try {
    const io::Manifest manifest = io::read_manifest(folder);
    inspected.faults = phi3::faults_of_checkpoint(folder, manifest);
    const auto step = phi3::step_of(manifest);
    inspected.json["step"] = step ? Json(*step) : Json(nullptr);
    vouched =
        manifest.files.contains(config::kAdapterTensorsName) && manifest.files.contains(config::kAdapterConfigName);
    uint64_t bytes = 0;
    for (const auto& [name, file] : manifest.files) {
      bytes += file.bytes;
    }
    inspected.json["bytes"] = bytes;
    const auto record = manifest.facts.value("record", Json::object());
    inspected.json["run_name"] = record.is_object() ? record.value("run_name", Json(nullptr)) : Json(nullptr);
    if (inspected.faults.empty()) {
      describe_state(folder, inspected.json);
    }
  } catch (const CheckpointError& error) {
    add_lines(inspected.faults, error.what());
  }
  bool readable = false;
  try {
    describe_adapter_of(phi3::AdapterFolder::open(folder), inspected.json);
    readable = true;
  } catch (const CheckpointError& error) {
    // A file that is not as it was written is named already; what cannot be read of it adds nothing.
    if (inspected.faults.empty() || !vouched) {
      add_lines(inspected.faults, error.what());
    }
  }
  if (!inspected.faults.empty()) {
    inspected.usable = usable_of(folder, inspected.faults, vouched, readable);
  }
  return inspected;
}

}  // namespace phi3tune::commands
