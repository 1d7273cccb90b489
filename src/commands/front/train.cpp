#include "commands/front/train.h"

#include "commands/front/engine.h"
#include "commands/front/preflight.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/version.h"

namespace phi3tune::commands {

int run_train(const TrainOptions& options) {
  const auto run = config::load_settings(options.sources);
  for (const auto& note : run.notes) {
    log_info("{}", note);
  }
  check_inputs(run);
  const EngineContext context{.json = options.json, .program_version = kVersion};
  return Engine::load().train(run, context);
}

}  // namespace phi3tune::commands
