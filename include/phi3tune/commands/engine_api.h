// The seam between the front, which links no libtorch, and libphi3tune_engine.so, which it loads when a command needs
// tensors: C symbols, found by dlsym. Front and engine are built together and stand in the same folder.
//
// Errors cross the seam as phi3tune::Error: its types live in the base library, which both link.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "phi3tune/commands/requests.h"
#include "phi3tune/config/options.h"

namespace phi3tune::commands {

struct EngineContext {
  bool json = false;            // --json: events on standard output, an object a line; the last is the result
  std::string program_version;  // of the front, for run.json
};

// One fact of `phi3-tune env` a pair, in the order to print: {"libtorch", "2.11.0"}, {"cpu capability", "AVX512"}.
using EngineFacts = std::vector<std::pair<std::string, std::string>>;

// Trains; returns the exit code of a run that ended by itself (kDone, kInterrupted). Throws phi3tune::Error.
using EngineTrain = int(const config::RunOptions& run, const EngineContext& context);
// Each does what its request says and returns the exit code. Throw phi3tune::Error.
using EngineGenerate = int(const GenerateRequest& request, const EngineContext& context);
using EngineChat = int(const ChatRequest& request, const EngineContext& context);
using EngineEval = int(const EvalRequest& request, const EngineContext& context);
using EngineMerge = int(const MergeRequest& request, const EngineContext& context);
using EngineExport = int(const ExportRequest& request, const EngineContext& context);
// Appends the engine's half of `phi3-tune env`.
using EngineDescribe = void(EngineFacts& facts);

inline constexpr const char* kEngineLibrary = "libphi3tune_engine.so";
inline constexpr const char* kEngineTrainSymbol = "phi3tune_engine_train";
inline constexpr const char* kEngineDescribeSymbol = "phi3tune_engine_describe";
inline constexpr const char* kEngineGenerateSymbol = "phi3tune_engine_generate";
inline constexpr const char* kEngineChatSymbol = "phi3tune_engine_chat";
inline constexpr const char* kEngineEvalSymbol = "phi3tune_engine_eval";
inline constexpr const char* kEngineMergeSymbol = "phi3tune_engine_merge";
inline constexpr const char* kEngineExportSymbol = "phi3tune_engine_export";

}  // namespace phi3tune::commands

// Defined by the engine (src/commands/engine).
extern "C" {
phi3tune::commands::EngineTrain phi3tune_engine_train;
phi3tune::commands::EngineDescribe phi3tune_engine_describe;
phi3tune::commands::EngineGenerate phi3tune_engine_generate;
phi3tune::commands::EngineChat phi3tune_engine_chat;
phi3tune::commands::EngineEval phi3tune_engine_eval;
phi3tune::commands::EngineMerge phi3tune_engine_merge;
phi3tune::commands::EngineExport phi3tune_engine_export;
}
