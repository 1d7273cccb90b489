#include <fmt/format.h>

#include "config/table.h"

namespace phi3tune::config {
namespace {

using O = RunOptions;

bool validates(const O& run) { return run.data.val_set_size > 0 || !run.data.test_datasets.empty(); }
constexpr const char* kValidates = "there is validation data";
const std::vector<std::string> kDeciders{"val_set_size", "test_datasets"};

// From 1 on steps, below a fraction of all steps.
Setting<O> eval_steps() {
  const Range range{.low = 0, .high = kMostSteps, .low_open = true};
  const std::string wanted = wanted_in("an integer", count_from(1)) + ", or a fraction > 0 and < 1";
  auto setting = row<O>("eval_steps", {.kind = Kind::kNumber, .range = range, .wanted = wanted},
                        "Evaluate every so many steps, or after this fraction of all steps.");
  setting.read = [wanted, range](const io::YamlNode& node, Reader& reader, O& run) {
    if (const auto value = reader.number(node, range)) {
      if (*value >= 1 && *value != static_cast<double>(static_cast<int64_t>(*value))) {
        reader.wrong(node, wanted);
        return;
      }
      run.eval.eval_steps = *value;
    }
  };
  setting.show = [](const O& run) { return to_json(run.eval.eval_steps); };
  return setting.also("run_val_every_n_steps", "torchtune")
      .also("steps_per_eval", "mlx-lm")
      .unset("at the end alone")
      .one_of("evaluation")
      .when(kValidates, kDeciders, validates);
}

// How the Trainer of transformers says when to evaluate.
Setting<O> eval_strategy() {
  auto type = choice_type({"epoch", "steps"}, {"no"});
  auto setting = row<O>("eval_strategy", type, "epoch is evals_per_epoch: 1; steps wants eval_steps.");
  setting.read = [type](const io::YamlNode& node, Reader& reader, O& run) {
    if (const auto index = read_choice(node, reader, type, {{"epoch"}, {"steps"}}); !index) {
      return;
    } else if (*index == 1) {
      if (!run.eval.eval_steps) {
        reader.fault(node, "found steps; wanted eval_steps beside it");
      }
    } else if (run.eval.eval_steps || run.eval.evals_per_epoch.value_or(1) != 1) {
      reader.fault(node, "found epoch, and eval_steps or evals_per_epoch says otherwise; keep one");
    } else {
      run.eval.evals_per_epoch = 1;
    }
  };
  setting.show = [](const O&) { return io::Json(nullptr); };
  return setting.also("evaluation_strategy", "Hugging Face")
      .only_for("evals_per_epoch")
      .when(kValidates, kDeciders, validates);
}

void add_evaluation(SettingList<O>& list) {
  list.section("Evaluation");
  list.add(eval_steps());
  list.add(integer<O>("evals_per_epoch", at(&O::eval, &EvalOptions::evals_per_epoch), count_from(1),
                      "Evaluations per epoch; instead of eval_steps.")
               .unset("at the end alone")
               .one_of("evaluation")
               .when(kValidates, kDeciders, validates));
  list.add(eval_strategy());
  list.add(boolean<O>("eval_on_start", at(&O::eval, &EvalOptions::eval_on_start), "Evaluate before the first step.")
               .when(kValidates, kDeciders, validates));
  list.add(later<O>("eval_metrics", "What an evaluation measures."));
  list.add(later<O>("eval_prompts", "Prompts to answer at every evaluation."));
  list.add(later<O>("early_stopping_patience", "Stop after so many evaluations without a better one.")
               .also("early_stopping_steps", "LLaMA-Factory")
               .also("early_stop_interval", "ms-swift"));
  list.add(later<O>("early_stopping_min_delta", "What counts as better."));
  list.add(later<O>("metric_for_best_model", "What makes an adapter the best."));
  list.add(later<O>("greater_is_better", "Whether more of it is better."));
  list.add(later<O>("loss_watchdog_threshold", "Stop when the loss stays above."));
  list.add(later<O>("loss_watchdog_patience", "For so many steps."));
}

Setting<O> output_dir() {
  auto setting = row<O>("output_dir", {.kind = Kind::kOutputPath, .wanted = "a path"},
                        "Folder of the run's files; relative to the current folder, wherever it is written.");
  setting.read = [](const io::YamlNode& node, Reader& reader, O& run) {
    if (auto value = reader.text(node)) {
      if (value->empty()) {
        reader.wrong(node, "a path");
      }
      run.output.output_dir = std::move(*value);
    }
  };
  setting.show = [](const O& run) { return to_json(run.output.output_dir); };
  return setting.also("out_dir", "LitGPT").must();
}

}  // namespace

void add_output_settings(SettingList<O>& list) {
  using Out = OutputOptions;
  using Progress = OutputOptions::Progress;
  add_evaluation(list);
  list.section("Output");
  list.add(output_dir());
  list.add(boolean<O>("overwrite_output_dir", at(&O::output, &Out::overwrite_output_dir),
                      "Delete the files of an earlier run of this program in output_dir first."));
  list.add(text<O>("run_name", at(&O::output, &Out::run_name), "Name of the run, for its files and the model card.")
               .unset("none"));
  list.add(later<O>("save_steps", "Save every so many steps.")
               .also("save_every_n_steps", "torchtune")
               .also("save_every", "mlx-lm"));
  list.add(later<O>("saves_per_epoch", "Saves per epoch."));
  list.add(later<O>("save_total_limit", "How many checkpoints to keep."));
  list.add(later<O>("save_best", "Keep the best adapter too."));
  list.add(later<O>("save_on_signal", "Save when told to stop."));
  list.add(
      later<O>("resume_from_checkpoint", "Go on from a checkpoint.").also("auto_resume_from_checkpoints", "Axolotl"));
  list.add(later<O>("save_only_model", "Save without the optimizer's state."));
  list.add(later<O>("export", "Other forms of the result."));
  list.add(integer<O>("logging_steps", at(&O::output, &Out::logging_steps), count_from(1), "Print every so many steps.")
               .also("log_every_n_steps", "torchtune")
               .also("steps_per_report", "mlx-lm"));
  list.add(later<O>("report_to", "Where the figures go."));
  list.add(choice<O>("progress", at(&O::output, &Out::progress),
                     {{Progress::kAuto, {"auto"}},
                      {Progress::kBar, {"bar"}},
                      {Progress::kPlain, {"plain"}},
                      {Progress::kJson, {"json"}},
                      {Progress::kNone, {"none"}}},
                     {}, "How progress is shown; auto: a bar on a terminal, else plain lines."));
}

}  // namespace phi3tune::config
