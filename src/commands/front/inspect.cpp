#include "commands/front/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/safetensors.h"
#include "phi3tune/phi3/adapter_folder.h"
#include "phi3tune/phi3/model_folder.h"
#include "phi3tune/phi3/state_dict.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;
using io::Json;

bool exists(const std::string& path) {
  std::error_code code;
  return fs::exists(path, code);
}

// "BF16": 195, "F32": 2
Json count_dtypes(const std::map<std::string, int64_t>& counts) {
  Json json = Json::object();
  for (const auto& [name, count] : counts) {
    json[name] = count;
  }
  return json;
}

Json describe_model(const std::string& path) {
  const auto folder = phi3::ModelFolder::open(path);
  const auto& config = folder.config();
  Json json = Json::object();
  json["kind"] = "model folder";
  json["path"] = path;
  json["architecture"] = "Phi3ForCausalLM";
  json["layers"] = config.num_layers;
  json["hidden_size"] = config.hidden_size;
  json["intermediate_size"] = config.intermediate_size;
  json["heads"] = config.num_heads;
  json["kv_heads"] = config.num_kv_heads;
  json["head_dim"] = config.head_dim;
  json["rotary_dim"] = config.rotary_dim;
  json["vocabulary"] = config.vocab_size;
  json["positions"] = config.max_position_embeddings;
  json["rope"] = config.rope.type == phi3::RopeType::kLongRope ? "longrope" : "default";
  json["rope_theta"] = config.rope.theta;
  json["sliding_window"] = config.sliding_window ? Json(*config.sliding_window) : Json(nullptr);
  json["tied_head"] = config.tie_word_embeddings;
  std::map<std::string, int64_t> dtypes;
  std::set<std::string> files;
  int64_t parameters = 0;
  for (const auto& spec : phi3::state_dict(config)) {
    const auto tensor = folder.tensor(spec.name);
    ++dtypes[std::string(io::dtype_name(tensor.entry->dtype))];
    files.insert(fs::path(tensor.file->path()).filename().string());
    parameters += spec.numel();
  }
  json["quantised"] = folder.is_prequantized(0, phi3::LinearKind::kQkv) ? Json("nf4") : Json(nullptr);
  json["parameters"] = parameters;
  json["bytes"] = folder.total_bytes();
  json["dtypes"] = count_dtypes(dtypes);
  json["files"] = std::vector<std::string>(files.begin(), files.end());
  json["stop_ids"] = phi3::read_stop_ids(path, config);
  std::vector<std::string> tokenizer;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json"}) {
    if (exists(path + "/" + name)) {
      tokenizer.emplace_back(name);
    }
  }
  json["tokenizer"] = tokenizer;
  json["fingerprint"] = folder.fingerprint();
  return json;
}

Json describe_adapter(const std::string& path) {
  const auto adapter = phi3::AdapterFolder::open(path);
  const auto& config = adapter.config();
  Json json = Json::object();
  json["kind"] = "adapter folder";
  json["path"] = path;
  json["method"] = "LORA";
  json["base"] = config.base_model_name_or_path.empty() ? Json(nullptr) : Json(config.base_model_name_or_path);
  json["rank"] = config.rank;
  json["alpha"] = config.alpha;
  json["dropout"] = config.dropout;
  json["rslora"] = config.use_rslora;
  json["target_modules"] = config.target_regex.empty() ? Json(config.target_modules) : Json(config.target_regex);
  json["modules"] = adapter.modules().size();
  std::map<std::string, int64_t> dtypes;
  int64_t parameters = 0;
  uint64_t bytes = 0;
  for (const auto& entry : adapter.file().header().tensors) {
    ++dtypes[std::string(io::dtype_name(entry.dtype))];
    parameters += entry.numel();
    bytes += entry.end - entry.begin;
  }
  json["parameters"] = parameters;
  json["bytes"] = bytes;
  json["dtypes"] = count_dtypes(dtypes);
  return json;
}

Json describe_safetensors(const std::string& path) {
  const auto file = io::SafetensorsFile::open(path);
  Json json = Json::object();
  json["kind"] = "safetensors file";
  json["path"] = path;
  std::map<std::string, int64_t> dtypes;
  Json tensors = Json::array();
  int64_t parameters = 0;
  uint64_t bytes = 0;
  for (const auto& entry : file.header().tensors) {
    ++dtypes[std::string(io::dtype_name(entry.dtype))];
    parameters += entry.numel();
    bytes += entry.end - entry.begin;
    Json tensor = Json::object();
    tensor["name"] = entry.name;
    tensor["dtype"] = io::dtype_name(entry.dtype);
    tensor["shape"] = entry.shape;
    tensors.push_back(std::move(tensor));
  }
  Json metadata = Json::object();
  for (const auto& [key, value] : file.header().metadata) {
    metadata[key] = value;
  }
  json["metadata"] = metadata;
  json["elements"] = parameters;
  json["bytes"] = bytes;
  json["dtypes"] = count_dtypes(dtypes);
  json["tensors"] = std::move(tensors);
  return json;
}

// A run's folder holds its adapter, its metrics and its record, and is neither a model nor an adapter itself.
void refuse_run_folder(const std::string& path) {
  if (exists(path + "/config.json") || exists(path + "/adapter_config.json") || !exists(path + "/run.json")) {
    return;
  }
  if (exists(path + "/adapter")) {
    throw CheckpointError("{}: the folder of a run; its adapter is {}/adapter: phi3-tune inspect {}/adapter", path,
                          path, path);
  }
  throw CheckpointError("{}: the folder of a run that saved no adapter; how it ended is in {}/run.json", path, path);
}

Json describe(const std::string& path) {
  std::error_code code;
  if (fs::is_directory(path, code)) {
    refuse_run_folder(path);
    const bool adapter = exists(path + "/adapter_config.json") && !exists(path + "/config.json");
    return adapter ? describe_adapter(path) : describe_model(path);
  }
  if (!exists(path)) {
    throw ModelError("{}: no such file or folder", path);
  }
  const auto extension = fs::path(path).extension().string();
  if (extension != ".safetensors") {
    throw ModelError(
        "{}: not something that can be inspected; wanted a model folder, an adapter folder or a "
        ".safetensors file{}",
        path,
        extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt"
            ? " (a pickle file is never opened)"
            : "");
  }
  return describe_safetensors(path);
}

std::string value_text(const std::string& key, const Json& value) {
  if (key == "bytes") {
    return fmt::format("{} ({})", value.get<uint64_t>(), format_bytes(value.get<uint64_t>()));
  }
  if (value.is_null()) {
    return "none";
  }
  if (value.is_string()) {
    return value.get<std::string>();
  }
  if (value.is_boolean()) {
    return value.get<bool>() ? "yes" : "no";
  }
  if (value.is_array() || value.is_object()) {
    std::string text;
    for (const auto& [name, item] : value.items()) {
      text += (text.empty() ? "" : ", ") + (value.is_object() ? name + " " : std::string()) + value_text("", item);
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
                            tensor["name"].get<std::string>());
      }
      continue;
    }
    std::string label = key;
    std::replace(label.begin(), label.end(), '_', ' ');
    text += fmt::format("{:<18} {}\n", label, value_text(key, value));
  }
  return text;
}

Json faults_json(const std::string& path, const Error& error) {
  Json json = Json::object();
  json["path"] = path;
  json["sound"] = false;
  json["faults"] = Json::array();
  std::string_view rest = error.what();
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    json["faults"].push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return json;
}

}  // namespace

int run_inspect(const InspectOptions& options) {
  std::string path = options.path;
  while (path.size() > 1 && path.ends_with('/')) {
    path.pop_back();
  }
  try {
    auto json = describe(path);
    json["sound"] = true;
    std::fputs((options.json ? json.dump() + "\n" : as_text(json)).c_str(), stdout);
    return static_cast<int>(ExitCode::kDone);
  } catch (const Error& error) {
    if (!options.json) {
      throw;
    }
    std::fputs((faults_json(path, error).dump() + "\n").c_str(), stdout);
    return static_cast<int>(error.exit_code());
  }
}

}  // namespace phi3tune::commands
