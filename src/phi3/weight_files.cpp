#include "phi3/weight_files.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "phi3/containment.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"

namespace phi3tune::phi3 {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

bool exists(const std::string& path) {
  std::error_code code;
  return std::filesystem::symlink_status(path, code).type() != std::filesystem::file_type::not_found && !code;
}

// No weights where they should be: say what is there instead.
void report_no_weights(const std::string& folder, Faults& faults) {
  std::vector<std::string> names;
  std::error_code code;
  for (auto it = std::filesystem::directory_iterator(folder, code);
       !code && it != std::filesystem::directory_iterator(); it.increment(code)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  const auto first = [&](auto&& wanted) {
    const auto found = std::find_if(names.begin(), names.end(), wanted);
    return found == names.end() ? std::string() : *found;
  };
  const std::string wanted = fmt::format("wanted {} or {}", kSingleFile, kIndexFile);
  if (const auto adapter = first([](const auto& name) { return name == "adapter_config.json"; }); !adapter.empty()) {
    faults.add(folder, "an adapter, not a base model; {}. Name the folder of its base, and this one as the adapter",
               wanted);
  } else if (const auto pickle = first(is_pickle_name); !pickle.empty()) {
    faults.add(folder,
               "the weights are in a pickle file ({}), which can run code when it is read and is never opened; {}. "
               "Convert once with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)",
               pickle, wanted);
  } else if (const auto gguf = first([](const auto& name) { return name.ends_with(".gguf"); }); !gguf.empty()) {
    faults.add(folder, "the weights are in a GGUF file ({}); {}. Download the model in Hugging Face layout", gguf,
               wanted);
  } else if (const auto part = first([](const auto& name) { return name.ends_with(".safetensors"); }); !part.empty()) {
    faults.add(folder, "{} is there, but no {} that lists the shards; {}", part, kIndexFile, wanted);
  } else {
    faults.add(folder, "no weights; {}", wanted);
  }
}

// Opens one shard; null, with a fault, when it cannot be used.
std::unique_ptr<io::SafetensorsFile> open_shard(const std::string& folder, const std::string& name, Faults& faults) {
  const std::string path = folder + "/" + name;
  if (!exists(path)) {
    faults.add(path, "missing (not fully downloaded?)");
    return nullptr;
  }
  std::error_code code;
  if (std::filesystem::is_symlink(path, code) && !std::filesystem::exists(path, code)) {
    faults.add(path, "a link to a file that is not there (not fully downloaded?)");
    return nullptr;
  }
  if (!lies_inside(folder, path)) {
    faults.add(path, "a link that leads out of the model folder; copy the file into the folder");
    return nullptr;
  }
  try {
    return std::make_unique<io::SafetensorsFile>(io::SafetensorsFile::open(path));
  } catch (const ModelError& error) {
    faults.add_lines(error.what());
    return nullptr;
  }
}

// tensor -> shard, as the index says. False when the index cannot be used at all.
bool read_index(const std::string& folder, std::map<std::string, std::string>& weight_map, Faults& faults) {
  const std::string path = folder + "/" + kIndexFile;
  if (!lies_inside(folder, path)) {
    faults.add(path, "a link that leads out of the model folder; copy the file into the folder");
    return false;
  }
  io::Json index;
  try {
    index = io::read_json_file<ModelError>(path);
  } catch (const ModelError& error) {
    faults.add_lines(error.what());
    return false;
  }
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object() || map->empty()) {
    faults.add(path, "weight_map: found {}, wanted an object that names each tensor's file",
               index.is_object() && map != index.end() ? shown(*map) : "nothing");
    return false;
  }
  std::set<std::string> refused;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string()) {
      faults.add(path, "weight_map: {} is {}, wanted a file name", tensor, shown(file));
      continue;
    }
    const auto& name = file.get_ref<const std::string&>();
    if (!is_bare_name(name) || !name.ends_with(".safetensors")) {
      if (refused.insert(name).second) {
        faults.add(path, "weight_map: {} is not the name of a .safetensors file beside the index{}", shown(file),
                   is_pickle_name(name) ? " (a pickle file is never opened)" : "");
      }
      continue;
    }
    weight_map.emplace(tensor, name);
  }
  return true;
}

// The tensors of one file; each must be new.
void add_tensors(WeightFiles& files, const io::SafetensorsFile& shard, Faults& faults) {
  for (const auto& entry : shard.header().tensors) {
    const auto [there, is_new] = files.tensors.emplace(entry.name, LocatedTensor{&shard, &entry});
    if (!is_new) {
      faults.add(shard.path(), "tensor {} is also in {}", entry.name, there->second.file->path());
    }
  }
}

void check_against_index(const std::map<std::string, std::string>& weight_map, const WeightFiles& files,
                         const std::string& folder, const std::set<std::string>& opened, Faults& faults) {
  const std::string index = folder + "/" + kIndexFile;
  for (const auto& [tensor, shard] : weight_map) {
    if (!opened.contains(shard)) {
      continue;  // reported already
    }
    const auto found = files.tensors.find(tensor);
    if (found == files.tensors.end()) {
      faults.add(index, "weight_map: tensor {} is not in {}", tensor, shard);
    } else if (found->second.file->path() != folder + "/" + shard) {
      faults.add(index, "weight_map: tensor {} is not in {} but in {}", tensor, shard, found->second.file->path());
    }
  }
  for (const auto& [tensor, located] : files.tensors) {
    if (!weight_map.contains(tensor)) {
      faults.add(located.file->path(), "tensor {} is not in the weight_map of {}", tensor, kIndexFile);
    }
  }
}

}  // namespace

WeightFiles open_weight_files(const std::string& folder, Faults& faults) {
  WeightFiles files;
  const bool single = exists(folder + "/" + kSingleFile);
  const bool indexed = exists(folder + "/" + kIndexFile);
  if (!single && !indexed) {
    report_no_weights(folder, faults);
    return files;
  }
  std::set<std::string> names;
  std::map<std::string, std::string> weight_map;
  if (single) {
    if (indexed) {
      log_warning("{}: both {} and {} are there; the first is read, as transformers does", folder, kSingleFile,
                  kIndexFile);
    }
    names.insert(kSingleFile);
  } else if (read_index(folder, weight_map, faults)) {
    for (const auto& [tensor, shard] : weight_map) {
      names.insert(shard);
    }
  }
  std::set<std::string> opened;
  for (const auto& name : names) {
    if (auto shard = open_shard(folder, name, faults)) {
      add_tensors(files, *shard, faults);
      files.shards.push_back(std::move(shard));
      opened.insert(name);
    }
  }
  if (!single) {
    check_against_index(weight_map, files, folder, opened, faults);
  }
  return files;
}

}  // namespace phi3tune::phi3
