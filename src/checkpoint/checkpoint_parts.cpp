#include "checkpoint/checkpoint_parts.h"

#include <algorithm>

#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"

namespace phi3tune::checkpoint {

std::vector<std::string> checkpoint_file_names() {
  std::vector<std::string> names = config::checkpoint_parts();
  names.emplace_back(io::kManifestName);
  std::sort(names.begin(), names.end());
  return names;
}

std::string checkpoint_name(int64_t step) { return config::checkpoint_name(step); }

std::vector<NamedTensor> named_moments(const train::AdamWState& optimizer) {
  return {{"moment1", optimizer.moment1}, {"moment2", optimizer.moment2}};
}

io::DType master_dtype(at::ScalarType dtype) {
  require(dtype == at::kFloat || dtype == at::kDouble, "parameters and moments are float32 or float64");
  return dtype == at::kFloat ? io::DType::kF32 : io::DType::kF64;
}

io::Json checkpoint_facts(int64_t step, const RunRecord& record) {
  io::Json facts = io::Json::object();
  facts["step"] = step;
  facts["record"] = identity_json(record);
  return facts;
}

}  // namespace phi3tune::checkpoint
