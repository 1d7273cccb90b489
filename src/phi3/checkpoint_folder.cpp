#include "phi3tune/phi3/checkpoint_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "phi3tune/config/run_layout.h"

namespace phi3tune::phi3 {

std::optional<int64_t> step_of(const io::Manifest& manifest) {
  const auto step = manifest.facts.find("step");
  if (step == manifest.facts.end() || !step->is_number_unsigned()) {
    return std::nullopt;
  }
  return step->get<int64_t>();
}

std::vector<std::string> faults_of_checkpoint(const std::string& folder, const io::Manifest& manifest) {
  const std::string place = folder + "/" + io::kManifestName;
  std::vector<std::string> faults;
  if (manifest.kind != config::kCheckpointKind) {
    faults.push_back(
        fmt::format("{}: of kind {}, wanted {}", place, io::Json(manifest.kind).dump(), config::kCheckpointKind));
    return faults;
  }
  const std::string name = std::filesystem::path(folder).filename().string();
  if (const auto step = step_of(manifest); !step) {
    faults.push_back(fmt::format("{}: facts: no step", place));
  } else if (name != config::checkpoint_name(*step)) {
    faults.push_back(fmt::format("{}: of step {}, whose folder is named {}, not {}", place, *step,
                                 config::checkpoint_name(*step), name));
  }
  const std::vector<std::string> parts = config::checkpoint_parts();
  for (const std::string& part : parts) {
    if (!manifest.files.contains(part)) {
      faults.push_back(fmt::format("{}: does not list {}", place, part));
    }
  }
  for (const auto& [listed, file] : manifest.files) {
    if (std::find(parts.begin(), parts.end(), listed) == parts.end()) {
      faults.push_back(fmt::format("{}: lists {}, which is no part of a checkpoint", place, listed));
    }
  }
  const auto of_files = io::faults_of(folder, manifest);
  faults.insert(faults.end(), of_files.begin(), of_files.end());
  return faults;
}

}  // namespace phi3tune::phi3
