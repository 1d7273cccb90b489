#include <fmt/format.h>

#include "config/table.h"

namespace phi3tune::config {
namespace {

using O = RunOptions;

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

Setting<O> save_steps() {
  auto setting = steps_or_fraction<O>("save_steps", at(&O::save, &SaveOptions::save_steps),
                                      "Save a checkpoint every so many steps, or after this fraction of all steps.");
  setting.show = [](const O& run) {
    const auto& steps = run.save.save_steps;
    return run.save.saves_per_epoch || !steps ? io::Json(nullptr)
           : *steps >= 1                      ? io::Json(static_cast<int64_t>(*steps))
                                              : io::Json(*steps);
  };
  return setting.also("save_every_n_steps", "torchtune").also("save_every", "mlx-lm").one_of("saving");
}

// How the Trainer of transformers says when to save.
Setting<O> save_strategy() {
  auto type = choice_type({"epoch", "steps", "no"}, {"best"});
  auto setting = row<O>("save_strategy", type,
                        "epoch is saves_per_epoch: 1; steps is save_steps; no saves at the end and on a signal alone.");
  setting.read = [type](const io::YamlNode& node, Reader& reader, O& run) {
    const auto index = read_choice(node, reader, type, {{"epoch"}, {"steps"}, {"no"}});
    if (!index) {
      return;
    }
    if (*index == 0) {
      if (run.save.saves_per_epoch.value_or(1) != 1) {
        reader.fault(node, "found epoch, and saves_per_epoch says otherwise; keep one");
      }
      run.save.saves_per_epoch = 1;
    } else if (*index == 1) {
      if (run.save.saves_per_epoch) {
        reader.fault(node, "found steps, and saves_per_epoch says otherwise; keep one");
      }
    } else {
      if (run.save.saves_per_epoch) {
        reader.fault(node, "found no, and saves_per_epoch says otherwise; keep one");
      }
      run.save.save_steps.reset();
    }
  };
  setting.show = [](const O&) { return io::Json(nullptr); };
  return setting.only_for("save_steps");
}

Setting<O> resume_from_checkpoint() {
  auto type = choice_type({"auto", "never", "true", "false"}, {});
  type.open = true;
  type.wanted = "auto, never, or the folder of a checkpoint";
  auto setting =
      row<O>("resume_from_checkpoint", type,
             "auto or true: the newest sound checkpoint of output_dir, if there is one; never or false; or a folder.");
  setting.read = [type](const io::YamlNode& node, Reader& reader, O& run) {
    auto& save = run.save;
    if (const auto as_boolean = boolean_value(node)) {
      save.resume = *as_boolean ? SaveOptions::Resume::kAuto : SaveOptions::Resume::kNever;
    } else if (node.scalar == "auto" || node.scalar == "never") {
      save.resume = node.scalar == "auto" ? SaveOptions::Resume::kAuto : SaveOptions::Resume::kNever;
    } else if (auto path = reader.input_path(node); path && path->empty()) {
      reader.wrong(node, type.wanted);
    } else if (path) {
      save.resume = SaveOptions::Resume::kPath;
      save.resume_path = std::move(*path);
    }
  };
  setting.show = [](const O& run) {
    return run.save.resume == SaveOptions::Resume::kPath   ? to_json(run.save.resume_path)
           : run.save.resume == SaveOptions::Resume::kAuto ? io::Json("auto")
                                                           : io::Json("never");
  };
  return setting.also("auto_resume_from_checkpoints", "Axolotl");
}

}  // namespace

void add_output_settings(SettingList<O>& list) {
  using Out = OutputOptions;
  using Progress = OutputOptions::Progress;
  list.section("Output");
  list.add(output_dir().free_on_resume());
  list.add(boolean<O>(
               "overwrite_output_dir", at(&O::output, &Out::overwrite_output_dir),
               "Delete the files of an earlier run of this program in output_dir first; an unfinished run of the same "
               "settings is gone on with instead.")
               .free_on_resume());
  list.add(text<O>("run_name", at(&O::output, &Out::run_name), "Name of the run, for its files and the model card.")
               .unset("none")
               .free_on_resume());
  list.add(save_steps().free_on_resume());
  list.add(integer<O>("saves_per_epoch", at(&O::save, &SaveOptions::saves_per_epoch), count_from(1),
                      "Checkpoints per epoch; instead of save_steps.")
               .unset("save_steps says when")
               .one_of("saving")
               .free_on_resume());
  list.add(save_strategy());
  list.add(integer<O>("save_total_limit", at(&O::save, &SaveOptions::save_total_limit), count_from(0),
                      "Checkpoints to keep, the best among them; 0: all. The newest and the best always stay.")
               .free_on_resume());
  list.add(boolean<O>("save_best", at(&O::save, &SaveOptions::save_best),
                      "Save a checkpoint after an evaluation that is the best so far, and keep it.")
               .when("there is validation data", {"val_set_size", "test_datasets"},
                     [](const O& run) { return run.data.val_set_size > 0 || !run.data.test_datasets.empty(); })
               .free_on_resume());
  list.add(boolean<O>("save_on_signal", at(&O::save, &SaveOptions::save_on_signal),
                      "Save a checkpoint when a signal or max_time stops the run.")
               .free_on_resume());
  list.add(resume_from_checkpoint().free_on_resume());
  list.add(later<O>("save_only_model", "Save without the optimizer's state."));
  list.add(later<O>("export", "Other forms of the result."));
  list.add(integer<O>("logging_steps", at(&O::output, &Out::logging_steps), count_from(1), "Print every so many steps.")
               .also("log_every_n_steps", "torchtune")
               .also("steps_per_report", "mlx-lm")
               .free_on_resume());
  list.add(later<O>("report_to", "Where the figures go."));
  list.add(choice<O>("progress", at(&O::output, &Out::progress),
                     {{Progress::kAuto, {"auto"}},
                      {Progress::kBar, {"bar"}},
                      {Progress::kPlain, {"plain"}},
                      {Progress::kJson, {"json"}},
                      {Progress::kNone, {"none"}}},
                     {}, "How progress is shown; auto: a bar on a terminal, else plain lines.")
               .free_on_resume());
}

}  // namespace phi3tune::config
