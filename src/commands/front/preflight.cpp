#include "commands/front/preflight.h"

#include <filesystem>

#include "commands/front/folders.h"
#include "phi3tune/core/error.h"
#include "phi3tune/data/record_reader.h"
#include "phi3tune/data/tokenizer.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/fused_adapter.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;

void check_base(const std::string& path) {
  require_model_folder("base_model:", path);
  (void)phi3::ModelFolder::open(path);
}

void check_tokenizer(const std::string& path) {
  std::error_code code;
  if (!fs::exists(path + "/tokenizer.json", code) && !fs::exists(path + "/tokenizer.model", code)) {
    throw ModelError("tokenizer_path: {} holds neither tokenizer.json nor tokenizer.model", path);
  }
  (void)data::Tokenizer::open(path);  // what is wrong with it is said before libtorch is loaded
}

void check_adapter(const config::LoraOptions& lora, const std::string& base) {
  const auto& path = lora.init_adapter;
  if (path.empty()) {
    return;
  }
  require_adapter_folder("lora_model_dir:", path);
  const auto model = phi3::ModelFolder::open(base);
  phi3::require_base(path, model, lora.any_base);
  (void)phi3::read_fused_config(path, model.config());
}

}  // namespace

void check_inputs(const config::RunOptions& run) {
  check_base(run.model.base_model);
  check_tokenizer(run.model.tokenizer_path);
  check_adapter(run.lora, run.model.base_model);
  for (const auto* datasets : {&run.data.datasets, &run.data.test_datasets}) {
    for (const auto& dataset : *datasets) {
      (void)data::expand_data_path(dataset.path);
    }
  }
}

}  // namespace phi3tune::commands
