// Folders that a person names: what is there instead of what was wanted, before anything is read of it.
#pragma once

#include <string>

namespace phi3tune::commands {

// `name` is what the person wrote it as: "base_model:", "--model". Throws ModelError.
void require_model_folder(const std::string& name, const std::string& path);
// Throws CheckpointError.
void require_adapter_folder(const std::string& name, const std::string& path);

}  // namespace phi3tune::commands
