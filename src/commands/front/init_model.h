// phi3-tune init-model DIR: a seeded random-weight model folder.
#pragma once

#include "phi3tune/phi3/init_model.h"

namespace phi3tune::commands {

struct InitModelOptions {
  phi3::InitModelOptions model;  // `tokenizer` empty: the project's own small one
  bool json = false;             // one JSON object on standard output
};

// Returns the exit code: kDone, or kInterrupted when a signal came and nothing was left behind.
int run_init_model(const InitModelOptions& options);

}  // namespace phi3tune::commands
