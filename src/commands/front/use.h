// The commands that use what was trained: what is cheap is checked here, then the engine is loaded.
#pragma once

#include "phi3tune/commands/requests.h"
#include "phi3tune/config/settings.h"

namespace phi3tune::commands {

struct EvalOptions {
  config::SettingsSources sources;
  EvalRequest request;  // `run` is filled from the sources
};

int run_generate(const GenerateRequest& request, bool json);
int run_chat(const ChatRequest& request, bool json);
int run_eval(EvalOptions options, bool json);
int run_merge(const MergeRequest& request, bool json);
int run_export(const ExportRequest& request, bool json);

}  // namespace phi3tune::commands
