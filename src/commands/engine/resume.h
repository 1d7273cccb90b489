// How a run starts: from nothing, or from what an earlier session of it left in its output_dir.
#pragma once

#include <optional>
#include <string>

#include "phi3tune/checkpoint/checkpoint.h"
#include "phi3tune/checkpoint/run_folder.h"
#include "phi3tune/config/options.h"

namespace phi3tune::commands {

// Holds output_dir for this process: an empty one, or that of an earlier run of this program, untouched. Throws
// ConfigError (something else is in it; another process holds it), ResourceError.
checkpoint::RunFolder hold_output_folder(const config::RunOptions& run);

struct Start {
  std::optional<checkpoint::VerifiedCheckpoint> from;  // none: from the beginning
  bool own = false;                                    // `from` lies in this run's output_dir
  bool finished = false;                               // the very same run, and it is done
  bool over = false;  // what is in the folder is to be deleted (RunFolder::start_over) once the run can start
};

// `now`: settings and hashes of this run. Says on the log which checkpoints are passed over and why, and what differs.
// A run that began with other settings or data: to be deleted with overwrite_output_dir, else a ConfigError that lists
// every difference. No sound checkpoint among some: CheckpointError.
Start settle_start(const checkpoint::RunFolder& folder, const config::RunOptions& run,
                   const checkpoint::RunRecord& now);

// What the run that `then` describes had settled is settled the same way again: device, threads, dtype, policy,
// micro-batch, where this run leaves it to the program.
void reuse_settled(const checkpoint::RunRecord& then, config::RunOptions& run);

// Which settings are not as they were asked for, and what was: for RunRecord::requested.
checkpoint::Facts changed_settings(const checkpoint::Facts& asked, const checkpoint::Facts& settled);

}  // namespace phi3tune::commands
