#include <fmt/format.h>

#include <algorithm>

#include "config/table.h"
#include "phi3tune/core/text.h"

namespace phi3tune::config {
namespace {

using O = RunOptions;

// A number of rows, or auto: then gradient_accumulation_steps and global_batch_size count the rows of a step, which are
// cut into passes by the plan. So what a step is does not depend on the memory there is.
Setting<O> micro_batch_size() {
  const Range range = between(1, kMostRows);
  auto type = choice_type({"auto"}, {});
  type.open = true;
  type.integers = true;
  type.range = range;
  type.wanted = wanted_in("an integer", range) + ", or auto";
  auto setting =
      row<O>("micro_batch_size", type,
             "Rows per pass: examples, or packs of sequence_len tokens; auto: the gradient_accumulation_steps "
             "rows of a step are cut into passes as is fastest in the memory there is.");
  setting.read = [range, wanted = type.wanted](const io::YamlNode& node, Reader& reader, O& run) {
    if (node.scalar == "auto") {
      run.schedule.micro_batch_size = 0;
    } else if (const auto value = reader.integer(node, range, wanted)) {
      run.schedule.micro_batch_size = *value;
    }
  };
  setting.show = [](const O& run) {
    return run.schedule.micro_batch_size == 0 ? io::Json("auto") : io::Json(run.schedule.micro_batch_size);
  };
  return setting;
}

// Rows per optimizer step: sets gradient_accumulation_steps, so micro_batch_size must stand before it in the table.
Setting<O> global_batch_size() {
  const Range range = count_from(1);
  auto setting =
      row<O>("global_batch_size", {.kind = Kind::kInteger, .range = range, .wanted = wanted_in("an integer", range)},
             "Rows per optimizer step; instead of gradient_accumulation_steps.");
  setting.read = [range](const io::YamlNode& node, Reader& reader, O& run) {
    const auto value = reader.integer(node, range);
    if (!value) {
      return;
    }
    const auto rows = std::max<int64_t>(1, run.schedule.micro_batch_size);
    if (*value % rows != 0) {
      reader.fault(node, fmt::format("found {}; wanted a multiple of micro_batch_size, which is {}", *value, rows));
      return;
    }
    run.schedule.gradient_accumulation_steps = *value / rows;
  };
  setting.show = [](const O& run) {
    return io::Json(std::max<int64_t>(1, run.schedule.micro_batch_size) * run.schedule.gradient_accumulation_steps);
  };
  return setting.one_of("accumulation").only_for("gradient_accumulation_steps");
}

// -1 is how the Trainer of transformers says "not set".
Setting<O> max_steps() {
  const Range range = count_from(1);
  auto setting = row<O>("max_steps", {.kind = Kind::kInteger, .range = range, .wanted = wanted_in("an integer", range)},
                        "Optimizer steps; instead of num_epochs.");
  setting.read = [range](const io::YamlNode& node, Reader& reader, O& run) {
    if (node.scalar == "-1") {
      reader.note(node, "-1 is read as not set");
      run.schedule.max_steps.reset();
    } else if (const auto value = reader.integer(node, range)) {
      run.schedule.max_steps = *value;
    }
  };
  setting.show = [](const O& run) { return to_json(run.schedule.max_steps); };
  return setting.also("iters", "mlx-lm").unset("num_epochs");
}

// transformers 5 writes a ratio into warmup_steps.
Setting<O> warmup_steps() {
  const Range range = count_from(0);
  auto setting =
      row<O>("warmup_steps", {.kind = Kind::kInteger, .range = range, .wanted = wanted_in("an integer", range)},
             "Optimizer steps over which the learning rate rises; instead of warmup_ratio.");
  setting.read = [range](const io::YamlNode& node, Reader& reader, O& run) {
    const auto value = reader.number(node, range);
    if (!value) {
      return;
    }
    if (*value > 0 && *value < 1) {
      run.schedule.warmup_ratio = *value;
      run.schedule.warmup_steps.reset();
      reader.note(node, fmt::format("{} is read as warmup_ratio", found(node)));
    } else if (const auto steps = reader.integer(node, range)) {
      run.schedule.warmup_steps = *steps;
    }
  };
  setting.show = [](const O& run) { return to_json(run.schedule.warmup_steps); };
  return setting.unset("warmup_ratio")
      .one_of("warmup")
      .when("lr_scheduler is not constant", {"lr_scheduler"},
            [](const O& run) { return run.schedule.scheduler != Scheduler::kConstant; });
}

Setting<O> warmup_ratio() {
  auto setting = number<O>("warmup_ratio", at(&O::schedule, &ScheduleOptions::warmup_ratio), between(0, 1),
                           "Share of all steps over which the learning rate rises.");
  setting.show = [](const O& run) {
    return run.schedule.warmup_steps ? io::Json(nullptr) : io::Json(run.schedule.warmup_ratio);
  };
  return setting.one_of("warmup").when("lr_scheduler is not constant", {"lr_scheduler"},
                                       [](const O& run) { return run.schedule.scheduler != Scheduler::kConstant; });
}

void add_batch(SettingList<O>& list) {
  using S = ScheduleOptions;
  auto micro = micro_batch_size();
  list.add(micro.also("per_device_train_batch_size", "Hugging Face, LLaMA-Factory, ms-swift"));
  list.add(integer<O>("gradient_accumulation_steps", at(&O::schedule, &S::gradient_accumulation_steps), count_from(1),
                      "Passes per optimizer step; rows, where micro_batch_size is auto.")
               .also("grad_accumulation_steps", "mlx-lm")
               .one_of("accumulation"));
  list.add(global_batch_size());
  auto eval_rows = integer<O>("eval_batch_size", at(&O::schedule, &S::eval_batch_size), between(1, kMostRows),
                              "Rows per pass when evaluating.");
  eval_rows.show = [](const O& run) {
    return run.schedule.eval_batch_size == 0 ? io::Json(nullptr) : io::Json(run.schedule.eval_batch_size);
  };
  list.add(eval_rows.also("per_device_eval_batch_size", "Hugging Face, LLaMA-Factory, ms-swift")
               .unset("micro_batch_size")
               .when("there is validation data", {"val_set_size", "test_datasets"},
                     [](const O& run) { return run.data.val_set_size > 0 || !run.data.test_datasets.empty(); }));
}

void add_optimizer(SettingList<O>& list) {
  using S = ScheduleOptions;
  const Range share{.low = 0, .high = 1, .high_open = true};
  list.add(number<O>("learning_rate", at(&O::schedule, &S::learning_rate), above(0), "Highest learning rate."));
  list.add(
      fixed<O>("optimizer", {"adamw", "adamw_torch", "adamw_torch_fused"},
               {"adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "lion", "sgd", "adafactor"},
               "The optimizer; adamw is AdamW as PyTorch defines it.")
          .also("optim", "Hugging Face, LLaMA-Factory, ms-swift"));
  list.add(number<O>("adam_beta1", at(&O::schedule, &S::adam_beta1), share, "Decay of the first moment.")
               .also("adamw_beta1", "surogate"));
  list.add(number<O>("adam_beta2", at(&O::schedule, &S::adam_beta2), share, "Decay of the second moment.")
               .also("adamw_beta2", "surogate"));
  list.add(
      number<O>("adam_epsilon", at(&O::schedule, &S::adam_epsilon), above(0), "Added to the root of the second moment.")
          .also("adamw_epsilon", "surogate"));
  list.add(number<O>("weight_decay", at(&O::schedule, &S::weight_decay), at_least(0), "Decoupled weight decay."));
  list.add(number<O>("max_grad_norm", at(&O::schedule, &S::max_grad_norm), at_least(0),
                     "Gradients are scaled down to this norm; 0: never.")
               .also("clip_grad_norm", "torchtune"));
}

void add_rate(SettingList<O>& list) {
  list.add(choice<O>("lr_scheduler", at(&O::schedule, &ScheduleOptions::scheduler),
                     {{Scheduler::kCosine, {"cosine"}},
                      {Scheduler::kLinear, {"linear"}},
                      {Scheduler::kConstant, {"constant"}},
                      {Scheduler::kConstantWithWarmup, {"constant_with_warmup"}}},
                     {"wsd", "warmup_stable_decay", "cosine_with_restarts", "cosine_with_min_lr", "polynomial",
                      "inverse_sqrt"},
                     "How the learning rate falls after the warm-up.")
               .also("lr_scheduler_type", "Hugging Face, LLaMA-Factory, ms-swift"));
  list.add(warmup_ratio());
  list.add(warmup_steps());
  list.add(number<O>("cosine_min_lr_ratio", at(&O::schedule, &ScheduleOptions::cosine_min_lr_ratio), between(0, 1),
                     "Where the cosine ends, as a share of learning_rate.")
               .also("final_lr_fraction", "surogate")
               .when("lr_scheduler is cosine", {"lr_scheduler"},
                     [](const O& run) { return run.schedule.scheduler == Scheduler::kCosine; }));
}

Setting<O> max_time() {
  constexpr double kLongest = 1000 * 86400.0;  // far from the end of a clock's count
  auto setting =
      row<O>("max_time", {.kind = Kind::kText, .wanted = "a time such as 11h30m, 90m or 45s, of 1000 days at most"},
             "Save and stop this long after the start of the program; the same command goes on.");
  setting.read = [wanted = setting.type.wanted](const io::YamlNode& node, Reader& reader, O& run) {
    const auto seconds = node.kind == io::YamlNode::Kind::kScalar ? parse_duration(node.scalar) : std::nullopt;
    if (seconds && *seconds > 0 && *seconds <= kLongest) {
      run.schedule.max_time = *seconds;
    } else {
      reader.wrong(node, wanted);
    }
  };
  setting.show = [](const O& run) {
    const auto& limit = run.schedule.max_time;
    return limit ? io::Json(format_double(*limit) + "s") : io::Json(nullptr);
  };
  return setting.unset("no limit");
}

}  // namespace

void add_schedule_settings(SettingList<O>& list) {
  using S = ScheduleOptions;
  list.section("Schedule");
  add_batch(list);
  list.add(number<O>("num_epochs", at(&O::schedule, &S::num_epochs), {.low = 0, .high = 1e6, .low_open = true},
                     "Passes over the data.")
               .also("num_train_epochs", "Hugging Face, LLaMA-Factory, ms-swift")
               .also("epochs", "torchtune")
               .when("max_steps is not given", {"max_steps"},
                     [](const O& run) { return !run.schedule.max_steps.has_value(); })
               .more_on_resume());
  list.add(max_steps().more_on_resume());
  list.add(later<O>("max_tokens", "Stop after so many tokens."));
  list.add(max_time().free_on_resume());
  add_optimizer(list);
  add_rate(list);
  list.add(later<O>("lr_groups", "Learning rates of single modules."));
  list.add(number<O>("neftune_noise_alpha", at(&O::schedule, &S::neftune_noise_alpha),
                     {.low = 0, .high = 1e6, .low_open = true},
                     "Size of the noise on the embeddings in training (NEFTune).")
               .unset("no noise"));
  list.add(later<O>("label_smoothing_factor", "Label smoothing."));
  list.add(later<O>("loss_type", "Other losses."));
}

}  // namespace phi3tune::config
