// phi3-tune inspect PATH: what a model folder, adapter folder or safetensors file holds, and whether it is sound.
#pragma once

#include <string>

namespace phi3tune::commands {

struct InspectOptions {
  std::string path;
  bool json = false;  // one JSON object on standard output
};

// Returns the exit code: kDone when sound. What is unsound is thrown (ModelError, CheckpointError), except with `json`,
// where the object says so under "faults" and the error's exit code is returned.
int run_inspect(const InspectOptions& options);

}  // namespace phi3tune::commands
