// What stands in a merged folder: which tensors in which file, and the texts beside them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "phi3tune/io/safetensors.h"
#include "phi3tune/phi3/model_folder.h"
#include "phi3tune/phi3/state_dict.h"

namespace phi3tune::checkpoint {

struct MergedShard {
  std::string name;
  std::vector<phi3::TensorSpec> tensors;
};

// The names sorted as transformers' save_pretrained sorts those of a model that was loaded (by the parts between dots,
// numbers as numbers), then cut greedily.
std::vector<MergedShard> merged_shards(const phi3::ModelConfig& config, io::DType dtype, uint64_t shard_size);

// model.safetensors.index.json.
std::string index_text(const std::vector<MergedShard>& shards, io::DType dtype);

// config.json of the base in its own spelling: with the dtype under both names, without quantization_config and without
// auto_map (the code it names is not copied).
// tied: that the head is the embedding.
std::string merged_config_text(const std::string& base_folder, io::DType dtype, bool tied);

// Name and text of the files that are copied; the chat template is the adapter's where that differs, which is said.
std::vector<std::pair<std::string, std::string>> merged_texts(const std::string& base_folder,
                                                              const std::string& adapter_folder);

}  // namespace phi3tune::checkpoint
