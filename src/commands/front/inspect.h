// phi3-tune inspect PATH: what a model folder, adapter folder, checkpoint, run folder or safetensors file holds,
// whether it is sound, and what can be used of it when it is not.
#pragma once

#include <string>

namespace phi3tune::commands {

struct InspectOptions {
  std::string path;
  bool json = false;  // one JSON object on standard output
};

// Returns the exit code: kDone when sound. What is unsound is thrown (ModelError, CheckpointError; the last line of a
// checkpoint's and a run's says what can be used), except with `json`, where the object says so under "faults" and
// "usable" and the error's exit code is returned. The folder of a run is described even so.
int run_inspect(const InspectOptions& options);

}  // namespace phi3tune::commands
