#include <filesystem>

#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/faults.h"
#include "checkpoint/training_state.h"
#include "phi3tune/checkpoint/checkpoint.h"
#include "phi3tune/config/run_layout.h"

namespace phi3tune::checkpoint {
namespace {

std::string without_trailing_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') {
    path.pop_back();
  }
  return path;
}

// The step that the manifest says, held against the folder's name.
int64_t step_of(const io::Manifest& manifest, const std::string& folder, Faults& faults) {
  const std::string place = folder + "/" + io::kManifestName;
  const auto step = manifest.facts.find("step");
  if (step == manifest.facts.end() || !step->is_number_unsigned()) {
    faults.add("{}: facts: no step", place);
    return -1;
  }
  const auto value = step->get<int64_t>();
  if (const std::string name = std::filesystem::path(folder).filename().string(); name != checkpoint_name(value)) {
    faults.add("{}: of step {}, whose folder is named {}, not {}", place, value, checkpoint_name(value), name);
  }
  return value;
}

void require_all_parts(const io::Manifest& manifest, const std::string& folder, Faults& faults) {
  const std::string place = folder + "/" + io::kManifestName;
  const std::vector<std::string> parts = config::checkpoint_parts();
  for (const std::string& part : parts) {
    if (!manifest.files.contains(part)) {
      faults.add("{}: does not list {}", place, part);
    }
  }
  for (const auto& [name, file] : manifest.files) {
    if (std::find(parts.begin(), parts.end(), name) == parts.end()) {
      faults.add("{}: lists {}, which is no part of a checkpoint", place, name);
    }
  }
}

}  // namespace

VerifiedCheckpoint verify_checkpoint(const std::string& folder) {
  VerifiedCheckpoint checkpoint;
  checkpoint.folder = without_trailing_slash(folder);
  const io::Manifest manifest = io::read_manifest(checkpoint.folder);
  const std::string place = checkpoint.folder + "/" + io::kManifestName;
  if (manifest.kind != config::kCheckpointKind) {
    throw CheckpointError("{}: of kind {}, wanted {}", place, io::Json(manifest.kind).dump(), config::kCheckpointKind);
  }
  Faults faults;
  checkpoint.step = step_of(manifest, checkpoint.folder, faults);
  require_all_parts(manifest, checkpoint.folder, faults);
  for (const std::string& fault : io::faults_of(checkpoint.folder, manifest)) {
    faults.add("{}", fault);
  }
  faults.throw_if_any();

  const auto record = manifest.facts.find("record");
  if (record == manifest.facts.end() || manifest.facts.size() != 2) {
    throw CheckpointError("{}: facts: wanted step and record", place);
  }
  checkpoint.record = identity_from(*record, place);
  const std::string state_path = checkpoint.folder + "/" + config::kTrainingStateName;
  checkpoint.state = read_training_state(state_path);
  if (checkpoint.state.loop.result.steps != checkpoint.step) {
    throw CheckpointError("{}: of step {}, the manifest says {}", state_path, checkpoint.state.loop.result.steps,
                          checkpoint.step);
  }
  return checkpoint;
}

}  // namespace phi3tune::checkpoint
