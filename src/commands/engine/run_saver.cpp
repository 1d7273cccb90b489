#include "run_saver.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/folder.h"

namespace phi3tune::commands {
namespace {

uint64_t bytes_in(const std::string& folder) {
  namespace fs = std::filesystem;
  uint64_t bytes = 0;
  std::error_code code;
  for (fs::directory_iterator it(folder, code); !code && it != fs::directory_iterator(); it.increment(code)) {
    std::error_code size_code;
    const auto size = it->file_size(size_code);
    bytes += size_code ? 0 : size;
  }
  return bytes;
}

}  // namespace

train::SaveMetrics RunSaver::save(const train::LoopState& state, const train::AdamWState& optimizer,
                                  train::SaveReason reason) {
  const auto started = std::chrono::steady_clock::now();
  train::SaveMetrics metrics;
  metrics.step = state.result.steps;
  metrics.reason = reason;
  metrics.path = checkpoints_.path_of(metrics.step);
  try {
    checkpoint::SavedState saved;
    saved.loop = state;
    saved.optimizer_step = optimizer.step;
    saved.metrics_bytes = log_.sync();
    checkpoints_.make_room(metrics.step);
    checkpoint::save_checkpoint(metrics.path, adapters_, optimizer, saved, record_);
  } catch (const ResourceError& fault) {
    throw ResourceError("step {}: no checkpoint: {}; when there is room, the same command goes on from the newest one",
                        metrics.step, fault.what());
  }
  const auto best = state.best ? std::optional(state.best->step) : std::nullopt;
  metrics.rotated = checkpoints_.rotate(metrics.step, options_.save_total_limit, best);
  metrics.bytes = bytes_in(metrics.path);
  metrics.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return metrics;
}

void check_disk_space(const std::string& folder, int64_t parameters, const config::SaveOptions& options, int64_t saves,
                      int64_t there) {
  constexpr uint64_t kTexts = uint64_t{4} << 20;  // tokenizer, configuration and log
  std::error_code code;
  const uint64_t free = io::free_bytes(folder, code);
  if (code) {
    log_warning("output_dir {}: how much room there is cannot be told: {}", folder, code.message());
    return;
  }
  const int64_t limit = options.save_total_limit;
  const int64_t kept = limit == 0 ? saves : std::min(saves, std::max<int64_t>(limit, options.save_best ? 2 : 1));
  const auto more = static_cast<uint64_t>(std::max<int64_t>(1, kept + 1 - there));
  const uint64_t one = checkpoint::checkpoint_bytes(parameters);
  const uint64_t wanted = more * one + 4 * static_cast<uint64_t>(parameters) + kTexts;
  if (free < wanted) {
    throw ResourceError(
        "output_dir {}: {} are free there, and the run will write {}: {} checkpoints of {} each (one more than "
        "save_total_limit keeps while it is written) and the adapter; make room, or lower save_total_limit or lora_r",
        folder, format_bytes(free), format_bytes(wanted), more, format_bytes(one));
  }
}

}  // namespace phi3tune::commands
