// What a run reads before it loads a weight: all of it is checked completely first.
#pragma once

#include "phi3tune/config/options.h"
#include "phi3tune/data/dataset.h"
#include "phi3tune/data/template.h"
#include "phi3tune/data/tokenizer.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::commands {

struct Inputs {
  phi3::ModelFolder folder;
  data::Tokenizer tokenizer;
  data::ChatTemplate chat_template;
  data::Dataset dataset;
};

// Opens the base, its tokenizer and template, and reads every record; says on the log what was read and what was not.
// Throws ModelError and DataError.
Inputs read_inputs(const config::RunOptions& run);

}  // namespace phi3tune::commands
