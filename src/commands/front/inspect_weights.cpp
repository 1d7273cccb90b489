#include "commands/front/inspect_weights.h"

#include <filesystem>
#include <map>
#include <set>
#include <string_view>

#include "phi3tune/core/error.h"
#include "phi3tune/io/gguf.h"
#include "phi3tune/io/safetensors.h"
#include "phi3tune/phi3/adapter_folder.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/model_folder.h"
#include "phi3tune/phi3/state_dict.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;
using io::Json;

// "BF16": 195, "F32": 2
Json count_dtypes(const std::map<std::string, int64_t>& counts) {
  Json json = Json::object();
  for (const auto& [name, count] : counts) {
    json[name] = count;
  }
  return json;
}

}  // namespace

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
  std::error_code code;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json"}) {
    if (fs::exists(path + "/" + name, code)) {
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
  const auto origin = phi3::read_adapter_origin(path);
  json["base_fingerprint"] = origin.base.empty() ? Json(nullptr) : Json(origin.base);
  json["rank"] = config.rank;
  json["alpha"] = config.alpha;
  json["dropout"] = config.dropout;
  json["rslora"] = config.use_rslora;
  json["dora"] = config.use_dora;
  json["target_modules"] = config.target_regex.empty() ? Json(config.target_modules) : Json(config.target_regex);
  json["modules"] = adapter.modules().size();
  if (!config.layers.empty()) {
    json["layers"] = config.layers;
  }
  if (!config.modules_to_save.empty()) {
    json["modules_to_save"] = config.modules_to_save;
  }
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

Json describe_gguf(const std::string& path) {
  const auto file = io::GgufFile::open(path);
  Json json = Json::object();
  const auto* type = file.find_key("general.type");
  const bool adapter = type != nullptr && type->value == "adapter";
  json["kind"] = adapter ? "GGUF adapter" : "GGUF file";
  json["path"] = path;
  Json metadata = Json::object();
  for (const auto& key : file.keys()) {
    metadata[key.name] = key.is_array ? Json(fmt::format("{} values", key.count)) : key.value;
  }
  json["metadata"] = metadata;
  std::map<std::string, int64_t> dtypes;
  Json tensors = Json::array();
  int64_t elements = 0;
  uint64_t bytes = 0;
  for (const auto& tensor : file.tensors()) {
    const auto name = io::ggml_type_name(tensor.type);
    ++dtypes[name];
    int64_t count = 1;
    for (const int64_t size : tensor.dims) {
      count *= size;
    }
    elements += count;
    bytes += tensor.end - tensor.begin;
    // Row-major, as everywhere else in what inspect says.
    tensors.push_back({{"name", tensor.name},
                       {"dtype", name},
                       {"shape", std::vector<int64_t>(tensor.dims.rbegin(), tensor.dims.rend())}});
  }
  json["elements"] = elements;
  json["bytes"] = bytes;
  json["dtypes"] = count_dtypes(dtypes);
  json["tensors"] = std::move(tensors);
  return json;
}

}  // namespace phi3tune::commands
