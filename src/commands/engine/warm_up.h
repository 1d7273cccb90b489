// A run before its first step: what it will take at the most is taken now.
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

// Writes to every page of the arena, whose contents are lost, and of the host's memory for offloaded activations: a
// machine that promised more memory than it has fails now. Throws ResourceError, Interrupted.
void touch(model::Arena& arena, const Compute& compute);

// One pass, forward and backward, over the largest micro-batch that the run may have, so that what libraries take and
// first choices of algorithms are met before step 1; the gradients are zero afterwards.
void try_training(train::Learner& learner, const Compute& compute);
// The same for the largest batch of evaluation; nothing where there is none.
void try_evaluation(train::Learner& learner, const Compute& compute);

// How often the device was waited for and so on, so far; nothing on the CPU.
std::optional<cuda::Counters> device_counters(const Compute& compute);
// What was taken and counted since `before`, for run.json.
void add_device_facts(const Compute& compute, const std::optional<cuda::Counters>& before,
                      std::vector<std::pair<std::string, std::string>>& facts);

}  // namespace phi3tune::commands
