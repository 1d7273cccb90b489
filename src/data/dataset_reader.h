// The records of a list of datasets, tokenized, and the report of what was read and left out.
#pragma once

#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/data/dataset.h"

namespace phi3tune::data {

// A record that became examples, before it is known on which side it lands.
struct KeptRecord {
  std::vector<Example> examples;
  Hash128 hash;
  config::RecordFormat format;
};

// Appends the files to dataset.files and fills the report, but for what depends on the side a record lands on
// (examples, tokens, formats, duplicates). Throws as read_dataset.
std::vector<KeptRecord> read_records(const std::vector<config::DatasetOptions>& datasets,
                                     const config::DataOptions& options, const Tokenizer& tokenizer,
                                     const ChatTemplate& chat_template, int64_t vocab_size, Dataset& dataset,
                                     DatasetReport& report);

}  // namespace phi3tune::data
