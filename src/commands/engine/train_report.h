// What a run says when it is over: to run.json, to the adapter's README, and to the person.
#pragma once

#include <string>
#include <vector>

#include "inputs.h"
#include "phi3tune/checkpoint/model_card.h"
#include "phi3tune/commands/engine_api.h"
#include "phi3tune/config/options.h"
#include "phi3tune/io/json.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/train/metrics.h"

namespace phi3tune::commands {

io::Json results_json(const train::TrainResult& result);
checkpoint::ModelCard model_card(const config::RunOptions& run, const EngineContext& context, const Inputs& inputs,
                                 const phi3::AdapterConfig& adapter, const train::TrainResult& result);
// Length and hash of each file, to be held against later.
io::Json measured_files(const std::string& folder, const std::vector<std::string>& names);
// `checkpoint`: what was saved when it stopped; empty: nothing was.
void print_stopped(const train::TrainResult& result, const std::string& checkpoint, bool json);
// A few lines on standard output, or one JSON object where events go there.
void print_result(const train::TrainResult& result, const std::string& adapter_folder, bool json);

}  // namespace phi3tune::commands
