// phi3-tune data preview: examples exactly as the trainer gets them.
#pragma once

#include <cstdint>
#include <string>

#include "phi3tune/config/options.h"

namespace phi3tune::commands {

struct DataPreviewOptions {
  config::RunOptions run;
  int64_t n = 3;      // the first n training examples, in the order of the files
  std::string row;    // "FILE:LINE" instead: the examples of that record, from either side
  bool json = false;  // one object a line: place, text, input_ids, labels[, weights]
};

// Reads the data as a training run does, and so throws what it would throw: DataError, ModelError, ConfigError.
int run_data_preview(const DataPreviewOptions& options);

}  // namespace phi3tune::commands
