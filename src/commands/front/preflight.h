// What can be checked of a run's inputs without libtorch and without reading weights or records.
#pragma once

#include "phi3tune/config/options.h"

namespace phi3tune::commands {

// Throws ModelError, CheckpointError or DataError.
void check_inputs(const config::RunOptions& run);

}  // namespace phi3tune::commands
