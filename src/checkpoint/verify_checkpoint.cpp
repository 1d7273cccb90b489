#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/faults.h"
#include "checkpoint/training_state.h"
#include "phi3tune/checkpoint/checkpoint.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/io/folder.h"
#include "phi3tune/phi3/checkpoint_folder.h"

namespace phi3tune::checkpoint {

VerifiedCheckpoint verify_checkpoint(const std::string& folder) {
  VerifiedCheckpoint checkpoint;
  checkpoint.folder = io::without_trailing_slash(folder);
  const io::Manifest manifest = io::read_manifest(checkpoint.folder);
  Faults faults;
  for (const std::string& fault : phi3::faults_of_checkpoint(checkpoint.folder, manifest)) {
    faults.add("{}", fault);
  }
  faults.throw_if_any();
  checkpoint.step = phi3::step_of(manifest).value();

  const std::string place = checkpoint.folder + "/" + io::kManifestName;
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
  if (checkpoint.state.optimizer_step != checkpoint.step) {
    throw CheckpointError("{}: {} updates of the optimizer for {} steps", state_path, checkpoint.state.optimizer_step,
                          checkpoint.step);
  }
  return checkpoint;
}

}  // namespace phi3tune::checkpoint
