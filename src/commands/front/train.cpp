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
  if (run.schedule.micro_batch_size == 0) {
    throw ConfigError(
        "micro_batch_size: auto works for `phi3-tune plan` alone yet, which says how many rows fit; write that number");
  }
  check_inputs(run);
  const EngineContext context{.json = options.json, .program_version = kVersion};
  return Engine::load().train(run, context);
}

}  // namespace phi3tune::commands
