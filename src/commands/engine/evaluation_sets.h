// The sets whose loss a run reports.
#pragma once

#include <vector>

#include "phi3tune/data/dataset.h"
#include "phi3tune/train/evaluation.h"

namespace phi3tune::commands {

// One set named "validation", or, when the validation examples come from several files, one a file named by the file's
// stem: a general set stands beside the domain's. The dataset must outlive them.
std::vector<train::EvaluationSet> evaluation_sets(const data::Dataset& dataset);

}  // namespace phi3tune::commands
