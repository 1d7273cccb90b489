// A folder's tensors held against what its config.json asks for.
#pragma once

#include "phi3/faults.h"
#include "phi3/weight_files.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::phi3 {

// Missing and unexpected tensors, shapes, dtypes, and the parts of NF4 groups. `complete`: every shard could be opened;
// if not, a missing tensor is no news.
void check_tensors(const ModelConfig& config, const WeightFiles& files, const std::string& folder, bool complete,
                   Faults& faults);

}  // namespace phi3tune::phi3
