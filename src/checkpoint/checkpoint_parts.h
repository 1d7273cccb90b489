// What saving, verifying and loading a checkpoint agree on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/adapter_tensors.h"
#include "phi3tune/checkpoint/checkpoint.h"

namespace phi3tune::checkpoint {

// "moment1", "moment2": the moments themselves.
std::vector<NamedTensor> named_moments(const train::AdamWState& optimizer);

// Masters and moments are kept as they are: F32, or F64 of an engine that computes in float64.
io::DType master_dtype(at::ScalarType dtype);

// {"step": 200, "record": {...}}
io::Json checkpoint_facts(int64_t step, const RunRecord& record);

}  // namespace phi3tune::checkpoint
