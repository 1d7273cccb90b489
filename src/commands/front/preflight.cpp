#include "commands/front/preflight.h"

#include <algorithm>
#include <filesystem>

#include "phi3tune/core/error.h"
#include "phi3tune/data/record_reader.h"
#include "phi3tune/data/tokenizer.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/fused_adapter.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;

bool is_folder(const std::string& path) {
  std::error_code code;
  return fs::is_directory(path, code);
}

void check_base(const std::string& path) {
  if (!is_folder(path)) {
    const bool like_an_id = std::count(path.begin(), path.end(), '/') == 1 && path.front() != '.';
    throw ModelError("base_model: {} is no folder; wanted a model folder in Hugging Face layout{}", path,
                     like_an_id ? " (names of models on a hub are not fetched: download the folder first)" : "");
  }
  (void)phi3::ModelFolder::open(path);
}

void check_tokenizer(const std::string& path) {
  std::error_code code;
  if (!fs::exists(path + "/tokenizer.json", code) && !fs::exists(path + "/tokenizer.model", code)) {
    throw ModelError("tokenizer_path: {} holds neither tokenizer.json nor tokenizer.model", path);
  }
  (void)data::Tokenizer::open(path);  // what is wrong with it is said before libtorch is loaded
}

void check_adapter(const std::string& path, const std::string& base) {
  if (path.empty()) {
    return;
  }
  if (!is_folder(path)) {
    throw CheckpointError("lora_model_dir: {} is no folder; wanted an adapter as PEFT writes it", path);
  }
  const auto model = phi3::ModelFolder::open(base);
  phi3::require_base(path, model, /*any_base=*/false);
  (void)phi3::read_fused_config(path, model.config());
}

}  // namespace

void check_inputs(const config::RunOptions& run) {
  check_base(run.model.base_model);
  check_tokenizer(run.model.tokenizer_path);
  check_adapter(run.lora.init_adapter, run.model.base_model);
  for (const auto* datasets : {&run.data.datasets, &run.data.test_datasets}) {
    for (const auto& dataset : *datasets) {
      (void)data::expand_data_path(dataset.path);
    }
  }
}

}  // namespace phi3tune::commands
