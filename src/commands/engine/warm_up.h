// A GPU's run before its first step: what it will take at the most is taken now.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compute.h"
#include "phi3tune/cuda/counters.h"
#include "phi3tune/model/arena.h"
#include "phi3tune/train/learner.h"

namespace phi3tune::commands {

// Touches the arena's activations. On a GPU also one pass over the largest micro-batch the run may have, and one over
// the largest of evaluation, so that what libraries take, pinned memory and first choices of algorithms are met before
// step 1; the gradients are zero afterwards. Throws ResourceError.
void warm_up(train::Learner& learner, model::Arena& arena, const Compute& compute);

// How often the device was waited for and so on, so far; nothing on the CPU.
std::optional<cuda::Counters> device_counters(const Compute& compute);
// What was taken and counted since `before`, for run.json.
void add_device_facts(const Compute& compute, const std::optional<cuda::Counters>& before,
                      std::vector<std::pair<std::string, std::string>>& facts);

}  // namespace phi3tune::commands
