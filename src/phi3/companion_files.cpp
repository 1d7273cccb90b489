#include <filesystem>

#include "phi3/containment.h"
#include "phi3/tokenizer_files.h"
#include "phi3tune/core/error.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::phi3 {
namespace {

template <typename ErrorType>
void take(const std::string& folder, const char* name, const char* what, std::vector<std::string>& names) {
  const std::string path = folder + "/" + name;
  std::error_code code;
  if (!std::filesystem::exists(path, code)) {
    return;
  }
  if (!lies_inside(folder, path)) {
    throw ErrorType("{}: a link that leads out of the {} folder; copy the file into the folder", path, what);
  }
  names.emplace_back(name);
}

}  // namespace

std::vector<std::string> companion_files(const std::string& folder) {
  std::vector<std::string> names;
  take<ModelError>(folder, "generation_config.json", "model", names);
  for (const char* name : kTokenizerFiles) {
    take<ModelError>(folder, name, "model", names);
  }
  return names;
}

std::vector<std::string> adapter_companions(const std::string& folder) {
  std::vector<std::string> names;
  for (const char* name : kTokenizerFiles) {
    take<CheckpointError>(folder, name, "adapter", names);
  }
  take<CheckpointError>(folder, "README.md", "adapter", names);
  return names;
}

}  // namespace phi3tune::phi3
