// The checkpoints of a run, as its loop asks for them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "phi3tune/checkpoint/checkpoints.h"
#include "phi3tune/checkpoint/run_folder.h"
#include "phi3tune/config/options.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/train/loop_state.h"
#include "run_log.h"

namespace phi3tune::commands {

class RunSaver final : public train::TrainSaver {
 public:
  // All must outlive it. `record`: what every checkpoint says of its run.
  RunSaver(const checkpoint::Checkpoints& checkpoints, const checkpoint::RunRecord& record,
           const model::LoraAdapters& adapters, RunLog& log, const config::SaveOptions& options)
      : checkpoints_(checkpoints), record_(record), adapters_(adapters), log_(log), options_(options) {}

  // The run's log first, then the checkpoint, then those that go for it. Throws ResourceError that says what the run
  // would go on from, NumericsError.
  train::SaveMetrics save(const train::LoopState& state, const train::AdamWState& optimizer,
                          train::SaveReason reason) override;

 private:
  const checkpoint::Checkpoints& checkpoints_;
  const checkpoint::RunRecord& record_;
  const model::LoraAdapters& adapters_;
  RunLog& log_;
  const config::SaveOptions& options_;
};

// Throws ResourceError when the disk of `folder` has no room for the checkpoints that will be kept, one more while it
// is written, and the result. `saves`: checkpoints the run will write; `there`: those there are already.
void check_disk_space(const std::string& folder, int64_t parameters, const config::SaveOptions& options, int64_t saves,
                      int64_t there);

}  // namespace phi3tune::commands
