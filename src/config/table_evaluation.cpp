#include "config/table.h"
#include "phi3tune/config/eval_metrics.h"

namespace phi3tune::config {
namespace {

using O = RunOptions;

bool validates(const O& run) { return run.data.val_set_size > 0 || !run.data.test_datasets.empty(); }
constexpr const char* kValidates = "there is validation data";
const std::vector<std::string> kDeciders{"val_set_size", "test_datasets"};

Setting<O> eval_steps() {
  auto setting = steps_or_fraction<O>("eval_steps", at(&O::eval, &EvalOptions::eval_steps),
                                      "Evaluate every so many steps, or after this fraction of all steps.");
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

Setting<O> eval_metrics() {
  auto setting = text_list<O>("eval_metrics", at(&O::eval, &EvalOptions::metrics),
                              "What the command eval measures, of base and adapter; training evaluations take the loss "
                              "and the token accuracy.");
  setting.type.wanted = "names of metrics";
  setting.read = [read = setting.read](const io::YamlNode& node, Reader& reader, O& run) {
    read(node, reader, run);
    for (const auto& name : run.eval.metrics) {
      if (!find_eval_metric(name)) {
        reader.fault(node, eval_metric_refusal(name));
      }
    }
  };
  return setting.unset("all").free_on_resume();
}

bool evaluates_between(const O& run) { return validates(run) && (run.eval.eval_steps || run.eval.evals_per_epoch); }
constexpr const char* kEvaluatesBetween = "there is validation data, and eval_steps or evals_per_epoch is given";
const std::vector<std::string> kBetweenDeciders{"val_set_size", "test_datasets", "eval_steps", "evals_per_epoch"};

// early_stopping_patience and what belongs to it.
void add_early_stopping(SettingList<O>& list) {
  list.add(integer<O>("early_stopping_patience", at(&O::eval, &EvalOptions::early_stopping_patience), count_from(1),
                      "Stop after so many evaluations in a row without a better one.")
               .also("early_stopping_steps", "LLaMA-Factory")
               .also("early_stop_interval", "ms-swift")
               .unset("never")
               .when(kEvaluatesBetween, kBetweenDeciders, evaluates_between));
  list.add(number<O>("early_stopping_min_delta", at(&O::eval, &EvalOptions::early_stopping_min_delta), at_least(0),
                     "An evaluation is better when it is better than the best by more than this.")
               .also("early_stopping_threshold", "Hugging Face")
               .when("early_stopping_patience is given", {"early_stopping_patience"},
                     [](const O& run) { return run.eval.early_stopping_patience.has_value(); }));
}

void add_watchdog(SettingList<O>& list) {
  list.add(number<O>("loss_watchdog_threshold", at(&O::eval, &EvalOptions::loss_watchdog_threshold), above(0),
                     "End the run as diverged when the loss of a step stays above this.")
               .unset("never"));
  list.add(integer<O>("loss_watchdog_patience", at(&O::eval, &EvalOptions::loss_watchdog_patience), count_from(1),
                      "Steps in a row above loss_watchdog_threshold.")
               .when("loss_watchdog_threshold is given", {"loss_watchdog_threshold"},
                     [](const O& run) { return run.eval.loss_watchdog_threshold.has_value(); }));
}

}  // namespace

void add_evaluation_settings(SettingList<O>& list) {
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
  list.add(eval_metrics());
  list.add(
      input_path<O>("eval_prompts", at(&O::eval, &EvalOptions::prompts_path),
                    "JSONL of prompts, {\"prompt\": text} or {\"messages\": [...]} a line, that the adapter answers at "
                    "every evaluation, greedily: into output_dir/generations.jsonl. On the CPU.")
          .unset("none")
          .when(kValidates, kDeciders, validates)
          .free_on_resume());
  list.add(
      integer<O>("eval_max_new_tokens", at(&O::eval, &EvalOptions::max_new_tokens), count_from(1),
                 "The longest of those answers, in tokens.")
          .when("eval_prompts is given", {"eval_prompts"}, [](const O& run) { return !run.eval.prompts_path.empty(); })
          .free_on_resume());
  list.add(text<O>("metric_for_best_model", at(&O::eval, &EvalOptions::metric_for_best_model),
                   "What makes a checkpoint the best: eval_loss, eval_perplexity or eval_token_accuracy of the first "
                   "set, or eval_<set>_loss and so on.")
               .when(kValidates, kDeciders, validates));
  list.add(boolean<O>("greater_is_better", at(&O::eval, &EvalOptions::greater_is_better),
                      "Whether more of metric_for_best_model is better.")
               .unset("true for the accuracy, false for the others")
               .when(kValidates, kDeciders, validates));
  list.add(boolean<O>("load_best_model_at_end", at(&O::save, &SaveOptions::load_best_model_at_end),
                      "The result is the best checkpoint's adapter instead of the last step's.")
               .when("save_best is true and there is validation data", {"save_best", "val_set_size", "test_datasets"},
                     [](const O& run) { return run.save.save_best && validates(run); })
               .free_on_resume());
  add_early_stopping(list);
  add_watchdog(list);
}

}  // namespace phi3tune::config
