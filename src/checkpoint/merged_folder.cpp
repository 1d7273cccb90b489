#include "checkpoint/merged_folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/data/folder_template.h"
#include "phi3tune/io/json.h"

namespace phi3tune::checkpoint {
namespace {

constexpr const char* kTemplate = "chat_template.jinja";

// Parts between dots; a number sorts by its value, and before any text.
struct NamePart {
  bool is_text = false;
  int64_t number = 0;
  std::string text;
  friend auto operator<=>(const NamePart&, const NamePart&) = default;
};

std::vector<NamePart> parts_of(const std::string& name) {
  std::vector<NamePart> parts;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    NamePart part{true, 0, name.substr(begin, end - begin)};
    const auto [rest, code] = std::from_chars(name.data() + begin, name.data() + end, part.number);
    if (code == std::errc() && rest == name.data() + end) {
      part.is_text = false;
      part.text.clear();
    } else {
      part.number = 0;
    }
    parts.push_back(std::move(part));
    begin = end + 1;
  }
  return parts;
}

uint64_t bytes_of(const phi3::TensorSpec& spec, io::DType dtype) {
  return static_cast<uint64_t>(spec.numel()) * io::dtype_size(dtype);
}

}  // namespace

std::vector<MergedShard> merged_shards(const phi3::ModelConfig& config, io::DType dtype, uint64_t shard_size) {
  auto tensors = phi3::state_dict(config);
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return parts_of(a.name) < parts_of(b.name); });
  std::vector<uint64_t> bytes;
  for (const auto& spec : tensors) {
    bytes.push_back(bytes_of(spec, dtype));
  }
  const auto cut = phi3::plan_shards(bytes, shard_size);
  std::vector<MergedShard> shards;
  for (size_t i = 0; i < cut.size(); ++i) {
    auto& shard = shards.emplace_back();
    shard.name = phi3::shard_name(i, cut.size());
    for (const size_t index : cut[i]) {
      shard.tensors.push_back(tensors[index]);
    }
  }
  return shards;
}

std::string index_text(const std::vector<MergedShard>& shards, io::DType dtype) {
  int64_t parameters = 0;
  std::map<std::string, std::string> files;
  for (const auto& shard : shards) {
    for (const auto& spec : shard.tensors) {
      parameters += spec.numel();
      files.emplace(spec.name, shard.name);
    }
  }
  io::Json json = io::Json::object();
  json["metadata"] = {{"total_parameters", parameters},
                      {"total_size", static_cast<uint64_t>(parameters) * io::dtype_size(dtype)}};
  auto& map = json["weight_map"] = io::Json::object();
  for (const auto& [tensor, file] : files) {
    map[tensor] = file;
  }
  return json.dump(2) + "\n";
}

std::string merged_config_text(const std::string& base_folder, io::DType dtype, bool tied) {
  auto json = io::read_json_file<ModelError>(base_folder + "/config.json");
  json["torch_dtype"] = io::torch_name(dtype);
  json["dtype"] = io::torch_name(dtype);
  if (json.contains("tie_word_embeddings") || !tied) {
    json["tie_word_embeddings"] = tied;
  }
  json.erase("quantization_config");
  json.erase("auto_map");
  return json.dump(2) + "\n";
}

std::vector<std::pair<std::string, std::string>> merged_texts(const std::string& base_folder,
                                                              const std::string& adapter_folder) {
  std::vector<std::pair<std::string, std::string>> texts;
  for (const auto& name : phi3::companion_files(base_folder)) {
    texts.emplace_back(name, io::read_text_file<ModelError>(base_folder + "/" + name));
  }
  const auto own = data::read_folder_template(adapter_folder);
  if (!own || own == data::read_folder_template(base_folder)) {
    return texts;
  }
  log_info("chat template: that of {}, which differs from the base's", adapter_folder);
  const auto there = std::find_if(texts.begin(), texts.end(), [](const auto& text) { return text.first == kTemplate; });
  if (there != texts.end()) {
    there->second = *own;
  } else {
    texts.emplace_back(kTemplate, *own);
  }
  return texts;
}

}  // namespace phi3tune::checkpoint
