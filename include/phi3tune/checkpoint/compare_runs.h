// Whether a run may go on from what another left: the same settings, base, data, tokenizer.
#pragma once

#include <string>
#include <vector>

#include "phi3tune/checkpoint/run_folder.h"

namespace phi3tune::checkpoint {

struct RunDifferences {
  std::vector<std::string> refused;  // "learning_rate: 0.0002 then, 0.0001 now"; "the training data is another"
  std::vector<std::string> allowed;  // more steps, other logging
  std::vector<std::string> inexact;  // threads, processor, device, build: the result may differ in the last bits
};

// `then` made `steps` updates. Paths are free, what they hold is compared by hash.
RunDifferences compare_runs(const RunRecord& then, const RunRecord& now, int64_t steps);

}  // namespace phi3tune::checkpoint
