#include <filesystem>

#include "phi3/containment.h"
#include "phi3tune/core/error.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::phi3 {

std::vector<std::string> companion_files(const std::string& folder) {
  std::vector<std::string> names;
  for (const char* name :
       {"added_tokens.json", "chat_template.jinja", "generation_config.json", "merges.txt", "special_tokens_map.json",
        "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json"}) {
    const std::string path = folder + "/" + name;
    std::error_code code;
    if (!std::filesystem::exists(path, code)) {
      continue;
    }
    if (!lies_inside(folder, path)) {
      throw ModelError("{}: a link that leads out of the model folder; copy the file into the folder", path);
    }
    names.emplace_back(name);
  }
  return names;
}

}  // namespace phi3tune::phi3
