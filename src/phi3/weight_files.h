// Which files of a folder hold the weights, and which tensors are in them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "phi3/faults.h"
#include "phi3tune/io/safetensors.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::phi3 {

struct WeightFiles {
  std::vector<std::unique_ptr<io::SafetensorsFile>> shards;  // sorted by name
  std::map<std::string, LocatedTensor, std::less<>> tensors;
};

// model.safetensors, or model.safetensors.index.json and the shards it names. What is wrong goes to `faults`; shards
// that are sound are there all the same.
WeightFiles open_weight_files(const std::string& folder, Faults& faults);

}  // namespace phi3tune::phi3
