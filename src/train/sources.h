// Where samples come from, for messages.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "phi3tune/data/dataset.h"

namespace phi3tune::train {

// "a.jsonl:3, a.jsonl:9 and 4 more": the first 16 places of `indices` into `examples`. Without a dataset: the samples'
// ids.
std::string describe_sources(const data::Dataset* dataset, std::span<const data::Example> examples,
                             std::span<const int64_t> indices);

}  // namespace phi3tune::train
