// The seam between the front, which links no libtorch, and libphi3tune_engine.so, which it loads when a command needs
// tensors: two C symbols, found by dlsym. Front and engine are built together and stand in the same folder.
//
// Errors cross the seam as phi3tune::Error: its types live in the base library, which both link.
#pragma once

#include <string>
#include <utility>
#include <vector>

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
// Appends the engine's half of `phi3-tune env`.
using EngineDescribe = void(EngineFacts& facts);

inline constexpr const char* kEngineLibrary = "libphi3tune_engine.so";
inline constexpr const char* kEngineTrainSymbol = "phi3tune_engine_train";
inline constexpr const char* kEngineDescribeSymbol = "phi3tune_engine_describe";

}  // namespace phi3tune::commands

// Defined by the engine (src/commands/engine).
extern "C" {
phi3tune::commands::EngineTrain phi3tune_engine_train;
phi3tune::commands::EngineDescribe phi3tune_engine_describe;
}
