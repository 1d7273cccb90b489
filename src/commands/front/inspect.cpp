#include "commands/front/inspect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <vector>

#include "commands/front/inspect_run.h"
#include "commands/front/inspect_weights.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/folder.h"
#include "phi3tune/io/manifest.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;
using io::Json;

bool exists(const std::string& path) {
  std::error_code code;
  return fs::exists(path, code);
}

Inspected describe(const std::string& path) {
  std::error_code code;
  if (fs::is_directory(path, code)) {
    const bool model = exists(path + "/config.json");
    const auto name = fs::path(path).filename().string();
    if (!model && (exists(path + "/" + io::kManifestName) || config::step_of_checkpoint(name))) {
      return inspect_checkpoint(path);
    }
    if (!model && !exists(path + "/" + config::kAdapterConfigName) && exists(path + "/" + config::kRecordName)) {
      return inspect_run_folder(path);
    }
    const bool adapter =
        !model && (exists(path + "/" + config::kAdapterConfigName) || exists(path + "/" + config::kAdapterTensorsName));
    return {adapter ? describe_adapter(path) : describe_model(path), {}, {}};
  }
  if (!exists(path)) {
    throw ModelError("{}: no such file or folder", path);
  }
  const auto extension = fs::path(path).extension().string();
  if (extension == ".gguf") {
    return {describe_gguf(path), {}, {}};
  }
  if (extension != ".safetensors") {
    throw ModelError(
        "{}: not something that can be inspected; wanted a model folder, an adapter folder, a checkpoint, the folder "
        "of a run, a .safetensors or a .gguf file{}",
        path,
        extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt" || extension == ".pkl"
            ? " (a pickle file is never opened)"
            : "");
  }
  return {describe_safetensors(path), {}, {}};
}

std::string value_text(const std::string& key, const Json& value) {
  if (key == "bytes") {
    return fmt::format("{} ({})", value.get<uint64_t>(), format_bytes(value.get<uint64_t>()));
  }
  if (value.is_null()) {
    return "none";
  }
  if (value.is_string()) {
    return one_line(value.get<std::string>());  // names and values of files of others
  }
  if (value.is_boolean()) {
    return value.get<bool>() ? "yes" : "no";
  }
  if (value.is_array() || value.is_object()) {
    std::string text;
    for (const auto& [name, item] : value.items()) {
      text += (text.empty() ? "" : ", ") + (value.is_object() ? one_line(name) + " " : std::string()) +
              value_text("", item);
    }
    return text.empty() ? "none" : text;
  }
  return value.dump();
}

std::string as_text(const Json& json) {
  std::string text;
  for (const auto& [key, value] : json.items()) {
    if (key == "tensors") {
      text += fmt::format("tensors            {}\n", value.size());
      for (const auto& tensor : value) {
        text += fmt::format("  {:<8} [{}] {}\n", tensor["dtype"].get<std::string>(),
                            fmt::join(tensor["shape"].get<std::vector<int64_t>>(), ", "),
                            one_line(tensor["name"].get<std::string>()));
      }
      continue;
    }
    if (key == "checkpoints") {
      text += fmt::format("{:<18} {}\n", key, value.empty() ? "none" : std::to_string(value.size()));
      for (const auto& checkpoint : value) {
        text += fmt::format(
            "  {}: {}\n", checkpoint["path"].get<std::string>(),
            checkpoint["sound"].get<bool>() ? "sound" : "damaged; " + checkpoint["usable"].get<std::string>());
      }
      continue;
    }
    std::string label = key;
    std::replace(label.begin(), label.end(), '_', ' ');
    text += fmt::format("{:<18} {}\n", label, value_text(key, value));
  }
  return text;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

int print_json(Json json, const std::vector<std::string>& faults, const std::string& usable, ExitCode code) {
  json["sound"] = faults.empty();
  if (!faults.empty()) {
    json["faults"] = faults;
  }
  if (!usable.empty()) {
    json["usable"] = usable;
  }
  std::fputs((json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n").c_str(), stdout);
  return static_cast<int>(code);
}

}  // namespace

int run_inspect(const InspectOptions& options) {
  const std::string path = io::without_trailing_slash(options.path);
  Inspected inspected;
  try {
    inspected = describe(path);
  } catch (const Error& error) {
    if (!options.json) {
      throw;
    }
    return print_json({{"path", path}}, lines_of(error.what()), "", error.exit_code());
  }
  const bool sound = inspected.faults.empty();
  if (options.json) {
    return print_json(inspected.json, inspected.faults, inspected.usable,
                      sound ? ExitCode::kDone : ExitCode::kCheckpoint);
  }
  // Of a run there is more to see than its faults.
  if (sound || inspected.json.contains("checkpoints")) {
    inspected.json["sound"] = sound;
    std::fputs(as_text(inspected.json).c_str(), stdout);
  }
  if (!sound) {
    throw CheckpointError(fmt::format("{}\n{}: {}", fmt::join(inspected.faults, "\n"), path, inspected.usable));
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace phi3tune::commands
