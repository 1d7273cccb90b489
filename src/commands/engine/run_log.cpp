#include "commands/engine/run_log.h"

#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"

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

namespace {

const std::string& cut_to(const std::string& path, uint64_t keep) {
  const auto before = io::cut_file(path, keep);
  if (before.value_or(0) < keep) {
    log_warning("{}: {} bytes are there, and {} were when the checkpoint was saved; lines of earlier steps are missing",
                path, before.value_or(0), keep);
  }
  return path;
}

}  // namespace

RunLog::RunLog(const std::string& path, uint64_t keep) : file_(cut_to(path, keep)) {}

void RunLog::add(std::string line) {
  waiting_.push_back(std::move(line));
  try {
    write_waiting();
  } catch (const ResourceError& fault) {
    if (!warned_) {
      log_warning("{}; the figures wait in memory", fault.what());
      warned_ = true;
    }
  }
}

void RunLog::write_waiting() {
  size_t written = 0;
  try {
    for (; written < waiting_.size(); ++written) {
      file_.write_line(waiting_[written]);
    }
  } catch (const ResourceError&) {
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(written));
    throw;
  }
  waiting_.clear();
}

uint64_t RunLog::sync() {
  write_waiting();
  file_.sync();
  return file_.size();
}

}  // namespace phi3tune::commands
