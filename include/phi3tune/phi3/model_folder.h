// A model folder in Hugging Face layout, opened and checked completely before any weight is read.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "phi3tune/io/safetensors.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::phi3 {

// A tensor inside one of the folder's shards.
struct LocatedTensor {
  const io::SafetensorsFile* file = nullptr;
  const io::TensorEntry* entry = nullptr;
  std::span<const std::byte> data() const { return file->data(*entry); }
  void release() const { file->release(*entry); }
};

class ModelFolder {
 public:
  // Opens config.json, model.safetensors or the index and its shards, and checks every tensor the architecture needs:
  // present, right shape, float dtype (F32, BF16, F16), or a bitsandbytes NF4 group (weight U8 and its .absmax,
  // .quant_map, ... .quant_state.bitsandbytes__nf4). Unexpected tensors are faults too (rotary inv_freq buffers
  // excepted). Throws ModelError, one line a fault.
  static ModelFolder open(const std::string& folder);

  const std::string& path() const noexcept { return path_; }
  const ModelConfig& config() const noexcept { return config_; }
  // `name` as in the file, e.g. "model.layers.0.mlp.down_proj.weight". Throws InternalError for a name that open() did
  // not promise.
  LocatedTensor tensor(std::string_view name) const;
  bool has(std::string_view name) const noexcept;
  // True if this linear is stored as a bitsandbytes NF4 group.
  bool is_prequantized(int64_t layer, LinearKind kind) const;
  // Names, dtypes, shapes and byte ranges of all tensors and the whole config.json, hashed: names the base in run.json
  // without reading 8 GB. (Contents: header bytes plus 64 KiB samples at the start, middle and end of each shard.)
  std::string fingerprint() const;
  // Bytes of all tensors.
  uint64_t total_bytes() const noexcept;

 private:
  ModelFolder() = default;
  std::string path_;
  ModelConfig config_;
  std::vector<std::unique_ptr<io::SafetensorsFile>> shards_;
  std::map<std::string, LocatedTensor, std::less<>> tensors_;
};

// Stop ids: generation_config.json if there, else the config's eos ids.
std::vector<int64_t> read_stop_ids(const std::string& folder, const ModelConfig& config);

// Names of the files that belong to the model beside config.json and the weights: generation_config.json, the
// tokenizer's and the chat template, those that are there. Throws ModelError for a link that leads out of the folder.
std::vector<std::string> companion_files(const std::string& folder);
// The same of an adapter folder: the tokenizer's files, the chat template and README.md. Throws CheckpointError.
std::vector<std::string> adapter_companions(const std::string& folder);

}  // namespace phi3tune::phi3
