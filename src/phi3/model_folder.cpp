#include "phi3tune/phi3/model_folder.h"

#include <algorithm>
#include <filesystem>

#include "phi3/check_tensors.h"
#include "phi3/containment.h"
#include "phi3/faults.h"
#include "phi3/weight_files.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"

namespace phi3tune::phi3 {
namespace {

void require_folder(const std::string& folder) {
  std::error_code code;
  const auto status = std::filesystem::status(folder, code);
  if (std::filesystem::is_directory(status)) {
    return;
  }
  if (std::filesystem::exists(status)) {
    throw ModelError("{}: a file, wanted a model folder (with config.json, the weights and the tokenizer)", folder);
  }
  // A name of the Hub is not a path; say how to make it one.
  const bool looks_like_hub = std::count(folder.begin(), folder.end(), '/') == 1 && !folder.starts_with('/') &&
                              !folder.starts_with('.') && !folder.starts_with('~');
  if (looks_like_hub) {
    throw ModelError(
        "{0}: no such folder. If it is a name of the Hugging Face Hub, download it first: "
        "hf download {0} --local-dir NEW_FOLDER",
        folder);
  }
  throw ModelError("{}: no such folder", folder);
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

ModelFolder ModelFolder::open(const std::string& folder) {
  require_folder(folder);
  Faults faults;
  ModelFolder model;
  model.path_ = folder;
  bool config_is_good = false;
  try {
    const std::string path = folder + "/config.json";
    std::error_code code;
    if (std::filesystem::exists(path, code) && !lies_inside(folder, path)) {
      throw ModelError("{}: a link that leads out of the model folder; copy the file into the folder", path);
    }
    model.config_ = read_model_config(folder);
    config_is_good = true;
  } catch (const ModelError& error) {
    faults.add_lines(error.what());
  }
  const size_t before = faults.size();
  auto files = open_weight_files(folder, faults);
  const bool complete = faults.size() == before;
  if (config_is_good && !files.shards.empty()) {
    check_tensors(model.config_, files, folder, complete, faults);
  }
  if (!faults.empty()) {
    throw ModelError(faults.text());
  }
  model.shards_ = std::move(files.shards);
  model.tensors_ = std::move(files.tensors);
  return model;
}

LocatedTensor ModelFolder::tensor(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw InternalError("internal error: tensor {} is asked for, which {} does not have", name, path_);
  }
  return found->second;
}

bool ModelFolder::has(std::string_view name) const noexcept { return tensors_.find(name) != tensors_.end(); }

bool ModelFolder::is_prequantized(int64_t layer, LinearKind kind) const {
  return tensor(linear_path(layer, kind) + ".weight").entry->dtype == io::DType::kU8;
}

std::string ModelFolder::fingerprint() const {
  constexpr size_t kSample = size_t{64} << 10;
  StreamHash hash;
  hash.update(io::read_text_file<ModelError>(path_ + "/config.json"));
  for (const auto& shard : shards_) {
    const auto bytes = shard->bytes();
    const size_t header = shard->header().data_begin;
    hash.update(std::to_string(bytes.size()));
    hash.update(text_of(bytes.first(header)));
    const auto data = bytes.subspan(header);
    const size_t length = std::min(kSample, data.size());
    for (const size_t begin : {size_t{0}, (data.size() - length) / 2, data.size() - length}) {
      hash.update(text_of(data.subspan(begin, length)));
    }
  }
  return hash.digest().hex();
}

uint64_t ModelFolder::total_bytes() const noexcept {
  uint64_t total = 0;
  for (const auto& [name, tensor] : tensors_) {
    total += tensor.entry->end - tensor.entry->begin;
  }
  return total;
}

std::vector<int64_t> read_stop_ids(const std::string& folder, const ModelConfig& config) {
  const std::string path = folder + "/generation_config.json";
  std::error_code code;
  if (!std::filesystem::exists(path, code)) {
    return config.eos_token_ids;
  }
  if (!lies_inside(folder, path)) {
    throw ModelError("{}: a link that leads out of the model folder; copy the file into the folder", path);
  }
  const auto json = io::read_json_file<ModelError>(path);
  if (!json.is_object()) {
    throw ModelError("{}: found {}, wanted a JSON object", path, shown(json));
  }
  const auto found = json.find("eos_token_id");
  if (found == json.end() || found->is_null()) {
    return config.eos_token_ids;
  }
  std::vector<int64_t> ids;
  for (const auto& id : found->is_array() ? *found : io::Json::array({*found})) {
    if (!id.is_number_integer() || id < 0 || id >= config.vocab_size) {
      throw ModelError("{}: eos_token_id: found {}, wanted token ids from 0 to {}", path, shown(*found),
                       config.vocab_size - 1);
    }
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

}  // namespace phi3tune::phi3
