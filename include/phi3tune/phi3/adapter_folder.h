// An adapter folder in PEFT's layout, opened and checked without its base.
#pragma once

#include <string>
#include <vector>

#include "phi3tune/io/safetensors.h"
#include "phi3tune/phi3/adapter_config.h"

namespace phi3tune::phi3 {

// One adapted module: W + scale * B A, its rows brought to the lengths `magnitude` with DoRA.
struct AdapterModule {
  std::string path;                            // "model.layers.0.mlp.down_proj"
  const io::TensorEntry* a = nullptr;          // [rank, in]
  const io::TensorEntry* b = nullptr;          // [out, rank]
  const io::TensorEntry* magnitude = nullptr;  // [out], with use_dora alone
};

class AdapterFolder {
 public:
  // adapter_config.json and adapter_model.safetensors: every tensor is half of a pair that the config targets, both
  // halves are there (and the magnitude with use_dora), of rank_of(path), or a weight of modules_to_save; in F32, BF16
  // or F16, and finite. Throws CheckpointError, one line a fault.
  static AdapterFolder open(const std::string& folder);

  const std::string& path() const noexcept { return path_; }
  const AdapterConfig& config() const noexcept { return config_; }
  const io::SafetensorsFile& file() const noexcept { return file_; }
  const std::vector<AdapterModule>& modules() const noexcept { return modules_; }  // sorted by path

 private:
  AdapterFolder(std::string path, AdapterConfig config, io::SafetensorsFile file)
      : path_(std::move(path)), config_(std::move(config)), file_(std::move(file)) {}
  std::string path_;
  AdapterConfig config_;
  io::SafetensorsFile file_;
  std::vector<AdapterModule> modules_;
};

}  // namespace phi3tune::phi3
