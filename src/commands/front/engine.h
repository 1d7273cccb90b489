// libphi3tune_engine.so, loaded when a command needs tensors: it brings libtorch, which takes a third of a second.
#pragma once

#include <string>

#include "phi3tune/commands/engine_api.h"

namespace phi3tune::commands {

class Engine {
 public:
  // From the program's own folder. Throws ResourceError that says what the loader said.
  static Engine load();

  int train(const config::RunOptions& run, const EngineContext& context) const {
    return find<EngineTrain>(kEngineTrainSymbol)(run, context);
  }
  int generate(const GenerateRequest& request, const EngineContext& context) const {
    return find<EngineGenerate>(kEngineGenerateSymbol)(request, context);
  }
  int chat(const ChatRequest& request, const EngineContext& context) const {
    return find<EngineChat>(kEngineChatSymbol)(request, context);
  }
  int eval(const EvalRequest& request, const EngineContext& context) const {
    return find<EngineEval>(kEngineEvalSymbol)(request, context);
  }
  int merge(const MergeRequest& request, const EngineContext& context) const {
    return find<EngineMerge>(kEngineMergeSymbol)(request, context);
  }
  int export_adapter(const ExportRequest& request, const EngineContext& context) const {
    return find<EngineExport>(kEngineExportSymbol)(request, context);
  }
  void describe(EngineFacts& facts) const { find<EngineDescribe>(kEngineDescribeSymbol)(facts); }

 private:
  explicit Engine(void* library) : library_(library) {}
  void* symbol(const char* name) const;
  template <typename Function>
  Function* find(const char* name) const {
    return reinterpret_cast<Function*>(symbol(name));
  }
  void* library_;
};

// Folder of the running program.
std::string program_folder();

}  // namespace phi3tune::commands
