// What a checkpoint and the folder of a run hold, whether it is as it was written, and what of it can still be used.
#pragma once

#include <string>
#include <vector>

#include "phi3tune/io/json.h"

namespace phi3tune::commands {

struct Inspected {
  io::Json json = io::Json::object();
  std::vector<std::string> faults;  // one a line, each begins with a path; empty: sound
  std::string usable;               // with faults: what can be used all the same
};

// Every byte is read. Nothing is written, and the run may still be going on.
Inspected inspect_checkpoint(const std::string& folder);
Inspected inspect_run_folder(const std::string& folder);

}  // namespace phi3tune::commands
