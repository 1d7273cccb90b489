#include <filesystem>

#include "phi3/containment.h"
#include "phi3/tokenizer_files.h"
#include "phi3tune/core/error.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::phi3 {

std::vector<std::string> companion_files(const std::string& folder) {
  std::vector<std::string> names;
  const auto take = [&](const char* name) {
    const std::string path = folder + "/" + name;
    std::error_code code;
    if (!std::filesystem::exists(path, code)) {
      return;
    }
    if (!lies_inside(folder, path)) {
      throw ModelError("{}: a link that leads out of the model folder; copy the file into the folder", path);
    }
    names.emplace_back(name);
  };
  take("generation_config.json");
  for (const char* name : kTokenizerFiles) {
    take(name);
  }
  return names;
}

}  // namespace phi3tune::phi3
