// From checked inputs to a run that is known to fit: everything that a later step takes is taken, and tried, before
// step 1.
#pragma once

#include <memory>
#include <string>

#include "compute.h"
#include "inputs.h"
#include "phi3tune/config/options.h"
#include "phi3tune/model/arena.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/train/learner.h"

namespace phi3tune::commands {

struct Prepared {
  Compute compute;
  std::shared_ptr<model::Arena> arena;
  std::unique_ptr<model::LoraAdapters> adapters;
  std::unique_ptr<model::Phi3Model> model;
  std::unique_ptr<train::AdapterLearner> learner;
};

// Settles where and how the run computes, takes its arena and writes to all of it, loads the base and makes the adapter
// (fresh, or that of lora_model_dir), and passes the largest micro-batch and the largest batch of evaluation once.
//
// When memory runs out on the way, all of it is given back, and it is tried again with a smaller micro-batch and as
// many more passes a step: the rows of a step and their order are the same, and so is its loss, a mean over the step's
// trained tokens; the gradient's sums are cut elsewhere. An eval_batch_size of its own is halved instead when it is
// what takes too much. Every time a warning says so, and the settings and their resolved texts follow.
//
// `start_from`: the checkpoint that the run goes on from, which knows what an adapter that started as a part of the
// base (PiSSA) started from; empty: none.
//
// `inputs` must outlive what is returned. Throws ResourceError when a single row does not fit either; ModelError,
// Interrupted; whatever settle_compute throws.
Prepared set_up(config::RunOptions& run, const Inputs& inputs, const phi3::AdapterConfig& adapter_config,
                const std::string& start_from);

// micro_batch_size to its largest divisor below it, gradient_accumulation_steps so that their product stays; false when
// it is 1 already.
bool halve_micro_batch(config::RunOptions& run);
// False when it is 1 already, or follows the micro-batch.
bool halve_eval_batch(config::RunOptions& run);

}  // namespace phi3tune::commands
