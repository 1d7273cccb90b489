#include "commands/front/folders.h"

#include <algorithm>
#include <filesystem>

#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "adapter_config.json";

bool is_there(const fs::path& path) {
  std::error_code code;
  return fs::exists(path, code);
}

bool is_folder(const std::string& path) {
  std::error_code code;
  return fs::is_directory(path, code);
}

}  // namespace

void require_model_folder(const std::string& name, const std::string& path) {
  if (!is_folder(path)) {
    const bool like_an_id = std::count(path.begin(), path.end(), '/') == 1 && path.front() != '.';
    throw ModelError("{} {} is no folder; wanted a model folder in Hugging Face layout{}", name, path,
                     like_an_id ? " (names of models on a hub are not fetched: download the folder first)" : "");
  }
  if (is_there(fs::path(path) / kConfig) && !is_there(fs::path(path) / "config.json")) {
    throw ModelError("{} {} is the folder of an adapter; wanted the folder of its base model", name, path);
  }
}

void require_adapter_folder(const std::string& name, const std::string& path) {
  if (!is_folder(path)) {
    throw CheckpointError("{} {} is no folder; wanted an adapter as PEFT writes it", name, path);
  }
  if (is_there(fs::path(path) / kConfig)) {
    return;
  }
  const auto inside = fs::path(path) / config::kAdapterFolder;
  throw CheckpointError("{} {} holds no {}; {}", name, path, kConfig,
                        is_there(inside / kConfig)
                            ? "it is the folder of a run, whose adapter is " + inside.string()
                            : "wanted an adapter as PEFT writes it: a run's adapter/ or one of its checkpoints");
}

}  // namespace phi3tune::commands
