#include "commands/engine/run_log.h"

namespace phi3tune::commands {

io::Json step_json(const train::StepMetrics& metrics) {
  return {{"step", metrics.step},
          {"epoch", metrics.epoch},
          {"loss", metrics.loss},
          {"grad_norm", metrics.grad_norm},
          {"learning_rate", metrics.learning_rate},
          {"trained_tokens", metrics.trained_tokens},
          {"tokens", metrics.tokens},
          {"tokens_per_second", metrics.tokens_per_second},
          {"memory_bytes", metrics.memory_bytes},
          {"seconds", metrics.seconds}};
}

io::Json evaluation_json(const train::EvalMetrics& metrics) {
  return {{"step", metrics.step},
          {"epoch", metrics.epoch},
          {"set", metrics.name},
          {"eval_loss", metrics.eval_loss},
          {"eval_tokens", metrics.eval_tokens},
          {"eval_token_accuracy", metrics.token_accuracy},
          {"seconds", metrics.seconds}};
}

}  // namespace phi3tune::commands
