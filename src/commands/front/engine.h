// libphi3tune_engine.so, loaded when a command needs tensors: it brings libtorch, which takes a third of a second.
#pragma once

#include <string>

#include "phi3tune/commands/engine_api.h"

namespace phi3tune::commands {

class Engine {
 public:
  // From the program's own folder. Throws ResourceError that says what the loader said.
  static Engine load();

  int train(const config::RunOptions& run, const EngineContext& context) const { return train_(run, context); }
  void describe(EngineFacts& facts) const { describe_(facts); }

 private:
  Engine(EngineTrain* train, EngineDescribe* describe) : train_(train), describe_(describe) {}
  EngineTrain* train_;
  EngineDescribe* describe_;
};

// Folder of the running program.
std::string program_folder();

}  // namespace phi3tune::commands
