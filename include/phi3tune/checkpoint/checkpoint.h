// One checkpoint: a folder that resumes a run to the bit, and that PEFT loads as an adapter.
//
//   step-000200/
//     adapter_config.json, adapter_model.safetensors   PEFT's, the masters in float32
//     optimizer.safetensors                            "moment1", "moment2", flat, in the order of the parameters
//     training_state.json                              the loop's state and the optimizer's count of updates
//     manifest.json                                    what the run is (facts), length and hash of each file
//
// Written last and renamed with the folder, the manifest makes it whole. No pickle, ever.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "phi3tune/checkpoint/run_folder.h"
#include "phi3tune/io/manifest.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/train/loop_state.h"
#include "phi3tune/train/optimizer.h"

namespace phi3tune::checkpoint {

// Names inside a checkpoint's folder, sorted.
std::vector<std::string> checkpoint_file_names();
std::string checkpoint_name(int64_t step);  // "step-000200"; more digits from a million steps on

struct SavedState {
  train::LoopState loop;
  int64_t optimizer_step = 0;
  uint64_t metrics_bytes = 0;  // length of metrics.jsonl then
};

// Bytes that a checkpoint of `parameters` trained numbers takes, and a little more.
uint64_t checkpoint_bytes(int64_t parameters) noexcept;

// Stages ".<name>.partial", fsyncs every file and the folder, reads all back, renames it to `folder` (which must not
// exist) and fsyncs its parent. `record`: what run this is, kept in the manifest's facts. Throws NumericsError (a
// parameter or moment is not finite), ResourceError (disk), CheckpointError (read back otherwise); then nothing of it
// is left, or only what the disk would not delete.
void save_checkpoint(const std::string& folder, const model::LoraAdapters& adapters, const train::AdamWState& optimizer,
                     const SavedState& state, const RunRecord& record);

// A checkpoint all of whose files were found as they were written.
struct VerifiedCheckpoint {
  std::string folder;
  int64_t step = 0;
  RunRecord record;  // of the run that wrote it: settings, hashes, versions, compute
  SavedState state;
};

// Reads and checks every byte. Throws CheckpointError, one fault a line.
VerifiedCheckpoint verify_checkpoint(const std::string& folder);

// Fills adapters and moments from a verified checkpoint; their shapes were made from the same configuration. Throws
// CheckpointError when tensors are missing, mis-shaped or not finite; nothing was taken then.
void load_checkpoint(const VerifiedCheckpoint& checkpoint, model::LoraAdapters& adapters,
                     const train::AdamWState& optimizer);

}  // namespace phi3tune::checkpoint
