// phi3-tune eval: base and adapter side by side on the evaluation sets.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "compute.h"
#include "entry.h"
#include "eval_page.h"
#include "eval_report.h"
#include "eval_rows.h"
#include "eval_scores.h"
#include "evaluation_sets.h"
#include "inputs.h"
#include "loaded_model.h"
#include "phi3tune/checkpoint/report_folder.h"
#include "phi3tune/commands/engine_api.h"
#include "phi3tune/config/eval_metrics.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/data/questions.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/fused_adapter.h"
#include "terminal_text.h"

namespace phi3tune::commands {
namespace {

constexpr size_t kAnswersShown = 3;  // of each set, on standard output
constexpr size_t kAnswerWidth = 240;
constexpr size_t kWidest = 120;  // columns; longer lines are hard to read
constexpr int64_t kAnswersAtOnce = 8;

std::vector<train::EvaluationSet> require_sets(const data::Dataset& dataset) {
  auto sets = evaluation_sets(dataset);
  if (sets.empty()) {
    throw ConfigError(
        "there is nothing to evaluate on: the settings name neither test_datasets nor val_set_size; give the ones of "
        "the training run, or --set test_datasets.0.path=FILE");
  }
  return sets;
}

bool any_of_answers(const std::vector<config::EvalMetric>& metrics) {
  return std::any_of(metrics.begin(), metrics.end(), config::is_of_answers);
}
bool any_of_tokens(const std::vector<config::EvalMetric>& metrics) {
  return !std::all_of(metrics.begin(), metrics.end(), config::is_of_answers);
}

std::vector<EvalSet> prepare_sets(const EvalRequest& request, const std::vector<config::EvalMetric>& metrics,
                                  const Inputs& inputs, const std::vector<train::EvaluationSet>& sets) {
  const auto& all = inputs.dataset.validation;
  auto questions = data::read_questions(request.run.data, inputs.dataset, all, inputs.tokenizer, inputs.chat_template);
  const int64_t samples = any_of_answers(metrics) ? request.samples : 0;
  std::vector<EvalSet> prepared;
  auto next = questions.begin();
  for (const auto& set : sets) {
    const auto end = next + static_cast<std::ptrdiff_t>(set.examples.size());
    prepared.push_back(prepare_set(set, {std::make_move_iterator(next), std::make_move_iterator(end)}, inputs.tokenizer,
                                   inputs.folder.config(), samples, request.max_new_tokens));
    next = end;
  }
  return prepared;
}

// `work` is given what to call with the rows done so far.
template <typename Work>
void timed(const std::string& what, size_t rows, bool shown, Work work) {
  StatusLine status(shown);
  const auto started = std::chrono::steady_clock::now();
  work([&](size_t done) { status.show(fmt::format("{}: {}/{}", what, done, rows)); });
  status.clear();
  log_info("{}: {:.1f} s", what, std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
}

// As the training run of these settings holds the base and computes, on the CPU.
Holding holding_of(const config::RunOptions& run) {
  Holding holding;
  holding.dtype = settle_dtype(run.compute.dtype, /*on_gpu=*/false);
  holding.quantize = run.method == config::AdapterMethod::kQlora;
  holding.nf4.block_size = run.quant.block_size;
  holding.nf4.double_quant = run.quant.double_quant;
  holding.threads = run.compute.threads;
  return holding;
}

std::string describe(const Holding& holding) {
  return fmt::format("{}{}", holding.dtype == at::kBFloat16 ? "bfloat16" : "float32",
                     holding.quantize ? ", the base's linears in NF4" : "");
}

void measure(const LoadedModel& used, const std::vector<config::EvalMetric>& metrics, const Inputs& inputs,
             const std::vector<train::EvaluationSet>& examples, bool shown, std::vector<EvalSet>& sets) {
  auto& model = *used.model;
  const auto stop_ids = stop_ids_of(inputs.folder, inputs.tokenizer, &inputs.chat_template);
  for (const Side side : {kBase, kAdapter}) {
    model.attach(side == kBase ? nullptr : used.adapters.get());
    for (size_t i = 0; i < sets.size(); ++i) {
      auto& set = sets[i];
      if (any_of_tokens(metrics)) {
        timed(fmt::format("{}: {}: loss of {} rows", kSideNames[side], set.name, set.rows.size()), set.rows.size(),
              shown, [&](const OnRows& on_rows) { measure_losses(model, examples[i], set, side, on_rows); });
      }
      const auto answers =
          std::count_if(set.rows.begin(), set.rows.end(), [](const auto& row) { return row.answered; });
      if (answers > 0) {
        timed(fmt::format("{}: {}: {} answers of at most {} tokens", kSideNames[side], set.name, answers,
                          set.max_new_tokens),
              static_cast<size_t>(answers), shown, [&](const OnRows& on_rows) {
                answer_rows(model, inputs.tokenizer, stop_ids, kAnswersAtOnce, set, side, on_rows);
              });
      }
    }
  }
}

void require_scores(const Evaluation& evaluation) {
  std::string reasons;
  for (const auto& set : evaluation.scores) {
    if (!set.scores.empty()) {
      return;
    }
    for (const auto& note : set.notes) {
      reasons += fmt::format("\n{}: {}", set.name, note);
    }
  }
  throw DataError("none of the metrics asked for can be taken:{}", reasons);
}

int evaluate(const EvalRequest& request, const EngineContext& context) {
  const auto& run = request.run;
  const bool named = !request.metrics.empty();
  const auto metrics =
      config::eval_metrics_of(named ? request.metrics : run.eval.metrics, named ? "--metrics" : "eval_metrics");
  checkpoint::require_own_report(request.out, config::report_names());
  const auto inputs = read_inputs(run);
  const auto examples = require_sets(inputs.dataset);
  phi3::require_base(request.adapter, inputs.folder, request.any_base);
  const auto adapter = phi3::read_fused_config(request.adapter, inputs.folder.config());
  Evaluation evaluation;
  evaluation.base = run.model.base_model;
  evaluation.adapter = request.adapter;
  evaluation.program_version = context.program_version;
  evaluation.metrics = metrics;
  evaluation.sets = prepare_sets(request, metrics, inputs, examples);

  auto holding = holding_of(run);
  if (holding.quantize && run.lora.init == config::LoraOptions::Init::kPissa) {
    log_info("PiSSA's result is for the base as its folder has it: both sides are measured over that, not over NF4");
    holding.quantize = false;
  }
  if (!holding.quantize && phi3::read_adapter_origin(request.adapter).held_in_nf4) {
    log_warning("{}: trained over the base in NF4, and evaluated over the weights as they are; --set adapter=qlora",
                request.adapter);
  }
  evaluation.computed = describe(holding);
  const auto used = load_weights(inputs.folder, adapter, request.adapter, holding);
  using Progress = config::OutputOptions::Progress;
  const bool shown = run.output.progress == Progress::kAuto || run.output.progress == Progress::kBar;
  measure(used, metrics, inputs, examples, shown, evaluation.sets);
  for (const auto& set : evaluation.sets) {
    evaluation.scores.push_back(score_set(set, metrics, static_cast<uint64_t>(run.schedule.seed)));
  }
  require_scores(evaluation);
  checkpoint::write_report(request.out, {{config::kReportRowsName, row_lines(evaluation)},
                                         {config::kReportTextName, markdown_report(evaluation)},
                                         {config::kReportPageName, html_report(evaluation)}});
  if (context.json) {
    io::Json json{{"event", "result"}};
    json.update(report_json(evaluation));
    json["report"] = request.out;
    fmt::print("{}\n", json.dump(-1, ' ', false, io::Json::error_handler_t::replace));
  } else {
    const size_t columns = std::min(columns_of(STDOUT_FILENO), kWidest);
    fmt::print("{}{}\nreport: {}/{}\n", score_tables(evaluation, columns),
               answers_text(evaluation, kAnswersShown, kAnswerWidth, columns), request.out, config::kReportPageName);
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace
}  // namespace phi3tune::commands

extern "C" int phi3tune_engine_eval(const phi3tune::commands::EvalRequest& request,
                                    const phi3tune::commands::EngineContext& context) {
  using namespace phi3tune::commands;
  return entered("a smaller --samples, --max-new-tokens or another machine takes less",
                 [&] { return evaluate(request, context); });
}
