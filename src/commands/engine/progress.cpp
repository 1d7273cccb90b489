#include "commands/engine/progress.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "commands/engine/progress_bar.h"
#include "commands/engine/run_log.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/json.h"

namespace phi3tune::commands {
namespace {

void write_to(std::FILE* stream, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
  std::fflush(stream);
}

using Progress = config::OutputOptions::Progress;

Progress settled(Progress kind, const ProgressSinks& sinks) {
  if (kind != Progress::kAuto) {
    return kind;
  }
  return sinks.json ? Progress::kJson : sinks.stderr_is_terminal ? Progress::kBar : Progress::kPlain;
}

}  // namespace

ProgressSinks sinks_of_process(bool json) { return {::isatty(STDERR_FILENO) == 1, json}; }

bool is_plain(const config::OutputOptions& options, const ProgressSinks& sinks) {
  return settled(options.progress, sinks) == Progress::kPlain;
}

std::unique_ptr<train::TrainObserver> make_progress(const config::OutputOptions& options, const ProgressSinks& sinks) {
  switch (settled(options.progress, sinks)) {
    case Progress::kBar:
      return std::make_unique<ProgressBar>(options.logging_steps, terminal_columns,
                                           [](std::string_view text) { write_to(stderr, text); });
    case Progress::kJson:
      return std::make_unique<JsonProgress>(options.logging_steps,
                                            [](std::string_view line) { write_to(stdout, std::string(line) + "\n"); });
    case Progress::kNone:
      return std::make_unique<train::TrainObserver>();
    case Progress::kPlain:
    case Progress::kAuto:
      break;
  }
  return std::make_unique<PlainProgress>(options.logging_steps,
                                         [](std::string_view line) { log_line(LogLevel::kInfo, line); });
}

bool ShownSteps::take(const train::StepMetrics& metrics) {
  loss_sum_ += metrics.loss;
  ++loss_count_;
  seconds_ += metrics.seconds;
  ++steps_;
  seconds_left_ = seconds_ / static_cast<double>(steps_) * static_cast<double>(max_steps_ - metrics.step);
  mean_loss_ = loss_sum_ / static_cast<double>(loss_count_);
  const bool shown = metrics.step == 1 || metrics.step == max_steps_ || (every_ > 0 && metrics.step % every_ == 0);
  if (shown) {
    loss_sum_ = 0.0;
    loss_count_ = 0;
  }
  return shown;
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (whole < 60) {
    return fmt::format("{} s", whole);
  }
  if (whole < 3600) {
    return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  }
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string start_text(const train::RunPlan& plan) {
  return fmt::format(
      "training {} parameters for {} steps{}: {} rows, {} micro-batches and {} steps an epoch, {} warm-up",
      plan.parameters, plan.max_steps, plan.steps_before > 0 ? fmt::format(", {} of them made", plan.steps_before) : "",
      plan.rows, plan.batches_per_epoch, plan.updates_per_epoch, plan.warmup_steps);
}

const char* reason_name(train::SaveReason reason) noexcept {
  switch (reason) {
    case train::SaveReason::kDue:
      return "due";
    case train::SaveReason::kBest:
      return "best";
    case train::SaveReason::kAsked:
      return "asked";
    case train::SaveReason::kStopped:
      return "stopped";
    case train::SaveReason::kEnd:
      return "end";
  }
  return "";
}

std::string save_text(const train::SaveMetrics& metrics) {
  std::string text = fmt::format("step {}  checkpoint saved: {} in {:.2f} s", metrics.step, format_bytes(metrics.bytes),
                                 metrics.seconds);
  switch (metrics.reason) {
    case train::SaveReason::kBest:
      text += ", the best so far";
      break;
    case train::SaveReason::kAsked:
      text += ", as a signal asked";
      break;
    case train::SaveReason::kDue:
    case train::SaveReason::kStopped:
    case train::SaveReason::kEnd:
      break;
  }
  if (!metrics.rotated.empty()) {
    text += fmt::format("; deleted for it: {}", fmt::join(metrics.rotated, ", "));
  }
  return text;
}

std::string step_text(const train::StepMetrics& metrics, const ShownSteps& shown) {
  return fmt::format("step {}/{}  epoch {:.2f}  loss {:.4f}  grad norm {:.3g}  lr {:.3g}  {:.0f} tokens/s  {}  {} left",
                     metrics.step, shown.max_steps(), metrics.epoch, shown.mean_loss(), metrics.grad_norm,
                     metrics.learning_rate, metrics.tokens_per_second, format_bytes(metrics.memory_bytes),
                     duration_text(shown.seconds_left()));
}

std::string evaluation_text(const train::EvalMetrics& metrics) {
  return fmt::format("step {}  {} loss {:.4f}  perplexity {:.3f}  token accuracy {:.1f} %  ({} tokens, {})",
                     metrics.step, metrics.name, metrics.eval_loss, std::exp(metrics.eval_loss),
                     100.0 * metrics.token_accuracy, metrics.eval_tokens, duration_text(metrics.seconds));
}

std::string finish_text(const train::TrainResult& result) {
  const double rate =
      result.training_seconds > 0.0 ? static_cast<double>(result.tokens) / result.training_seconds : 0.0;
  return fmt::format("{} after {} steps, {} trained tokens, {} ({:.0f} tokens/s while training)",
                     result.status == train::TrainStatus::kStopped ? "stopped"
                     : result.ended_early                          ? "ended early: no better evaluation;"
                                                                   : "trained",
                     result.steps, result.trained_tokens, duration_text(result.seconds), rate);
}

void PlainProgress::on_start(const train::RunPlan& plan) {
  shown_.start(plan);
  write_(start_text(plan));
}

void PlainProgress::on_step(const train::StepMetrics& metrics) {
  if (shown_.take(metrics)) {
    write_(step_text(metrics, shown_));
  }
}

void PlainProgress::on_evaluation(const train::EvalMetrics& metrics) { write_(evaluation_text(metrics)); }
void PlainProgress::on_save(const train::SaveMetrics& metrics) { write_(save_text(metrics)); }
void PlainProgress::on_finish(const train::TrainResult& result) { write_(finish_text(result)); }

void JsonProgress::on_start(const train::RunPlan& plan) {
  shown_.start(plan);
  const io::Json event = {{"event", "start"},
                          {"parameters", plan.parameters},
                          {"rows", plan.rows},
                          {"batches_per_epoch", plan.batches_per_epoch},
                          {"updates_per_epoch", plan.updates_per_epoch},
                          {"max_steps", plan.max_steps},
                          {"steps_before", plan.steps_before},
                          {"warmup_steps", plan.warmup_steps},
                          {"evaluation_sets", plan.evaluation_sets}};
  write_(event.dump());
}

void JsonProgress::on_step(const train::StepMetrics& metrics) {
  if (shown_.take(metrics)) {
    io::Json event = {{"event", "step"}};
    event.update(step_json(metrics));
    event["mean_loss"] = shown_.mean_loss();
    event["seconds_left"] = shown_.seconds_left();
    write_(event.dump());
  }
}

void JsonProgress::on_evaluation(const train::EvalMetrics& metrics) {
  io::Json event = {{"event", "evaluation"}};
  event.update(evaluation_json(metrics));
  write_(event.dump());
}

void JsonProgress::on_save(const train::SaveMetrics& metrics) {
  const io::Json event = {
      {"event", "save"},           {"step", metrics.step},   {"reason", reason_name(metrics.reason)},
      {"path", metrics.path},      {"bytes", metrics.bytes}, {"seconds", metrics.seconds},
      {"deleted", metrics.rotated}};
  write_(event.dump());
}

void JsonProgress::on_finish(const train::TrainResult& result) {
  const io::Json event = {{"event", "end"},
                          {"status", result.status == train::TrainStatus::kFinished ? "finished" : "stopped"},
                          {"steps", result.steps},
                          {"epoch", result.epoch},
                          {"trained_tokens", result.trained_tokens},
                          {"tokens", result.tokens},
                          {"seconds", result.seconds},
                          {"training_seconds", result.training_seconds}};
  write_(event.dump());
}

}  // namespace phi3tune::commands
