// The table is whole and consistent, and every text made from it is too.
#include "config/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <random>
#include <set>

#include "config/names.h"
#include "phi3tune/config/settings.h"
#include "phi3tune/core/error.h"
#include "support/temp_folder.h"

namespace phi3tune::config {
namespace {

using testing::HasSubstr;

// Every key of the settings' design, and what works today.
const std::set<std::string> kWorks{"schema_version",
                                   "base_model",
                                   "tokenizer_path",
                                   "chat_template",
                                   "default_system_message",
                                   "adapter",
                                   "load_in_4bit",
                                   "bnb_4bit_quant_type",
                                   "bnb_4bit_use_double_quant",
                                   "quant_block_size",
                                   "lora_r",
                                   "lora_alpha",
                                   "lora_dropout",
                                   "lora_target_modules",
                                   "lora_exclude_modules",
                                   "lora_target_regex",
                                   "lora_target_linear",
                                   "lora_rank_pattern",
                                   "lora_alpha_pattern",
                                   "lora_init",
                                   "use_rslora",
                                   "use_dora",
                                   "lora_any_base",
                                   "lora_model_dir",
                                   "datasets",
                                   "test_datasets",
                                   "val_set_size",
                                   "train_on_inputs",
                                   "sequence_len",
                                   "excess_length_strategy",
                                   "max_bad_rows",
                                   "sample_packing",
                                   "packing_strategy",
                                   "eval_sample_packing",
                                   "group_by_length",
                                   "shuffle",
                                   "micro_batch_size",
                                   "gradient_accumulation_steps",
                                   "global_batch_size",
                                   "eval_batch_size",
                                   "num_epochs",
                                   "max_steps",
                                   "learning_rate",
                                   "optimizer",
                                   "adam_beta1",
                                   "adam_beta2",
                                   "adam_epsilon",
                                   "weight_decay",
                                   "lr_scheduler",
                                   "warmup_ratio",
                                   "warmup_steps",
                                   "cosine_min_lr_ratio",
                                   "max_grad_norm",
                                   "device",
                                   "bf16",
                                   "gradient_checkpointing",
                                   "activation_offloading",
                                   "gpu_memory_limit",
                                   "threads",
                                   "seed",
                                   "data_seed",
                                   "deterministic",
                                   "eval_steps",
                                   "evals_per_epoch",
                                   "eval_strategy",
                                   "eval_on_start",
                                   "eval_metrics",
                                   "eval_prompts",
                                   "eval_max_new_tokens",
                                   "output_dir",
                                   "overwrite_output_dir",
                                   "run_name",
                                   "logging_steps",
                                   "progress",
                                   "early_stopping_patience",
                                   "early_stopping_min_delta",
                                   "metric_for_best_model",
                                   "greater_is_better",
                                   "loss_watchdog_threshold",
                                   "loss_watchdog_patience",
                                   "save_steps",
                                   "saves_per_epoch",
                                   "save_total_limit",
                                   "save_best",
                                   "save_on_signal",
                                   "resume_from_checkpoint",
                                   "max_time",
                                   "save_strategy",
                                   "load_best_model_at_end",
                                   "lora_layers",
                                   "lora_modules_to_save",
                                   "loraplus_lr_ratio",
                                   "neftune_noise_alpha"};
const std::set<std::string> kLater{"special_tokens",
                                   "eot_tokens",
                                   "rope_factor_select",
                                   "load_in_8bit",
                                   "bnb_4bit_compute_dtype",
                                   "quant_skip_modules",
                                   "lora_dtype",
                                   "dataset_prepared_path",
                                   "dataset_num_proc",
                                   "max_tokens",
                                   "lr_groups",
                                   "label_smoothing_factor",
                                   "loss_type",
                                   "fp16",
                                   "tf32",
                                   "attn_implementation",
                                   "chunked_cross_entropy",
                                   "save_only_model",
                                   "export",
                                   "report_to"};
const std::set<std::string> kDatasetKeys{
    "path",           "type",         "field_messages",       "message_property_mappings",
    "roles_to_train", "train_on_eos", "message_field_weight", "message_field_training",
    "samples",        "weight"};

TEST(SettingsTable, HoldsEveryKeyOnce) {
  std::set<std::string> works;
  std::set<std::string> later;
  for (const auto& setting : run_settings()) {
    EXPECT_TRUE((setting.later ? later : works).insert(setting.name).second) << setting.name;
  }
  EXPECT_EQ(works, kWorks);
  EXPECT_EQ(later, kLater);
  std::set<std::string> keys;
  for (const auto& setting : dataset_settings()) {
    EXPECT_TRUE(keys.insert(setting.name).second) << setting.name;
  }
  EXPECT_EQ(keys, kDatasetKeys);
}

template <typename Options>
void expect_whole(const std::vector<Setting<Options>>& table, bool foreign_names_too) {
  std::set<std::string> names;
  for (const auto& setting : table) {
    EXPECT_TRUE(names.insert(setting.name).second) << setting.name;
    EXPECT_TRUE(setting.doc.ends_with('.')) << setting.name;
    EXPECT_EQ(setting.doc.find('\n'), std::string::npos) << setting.name;
    EXPECT_EQ(setting.later, !setting.read) << setting.name;
    EXPECT_EQ(setting.later, !setting.show) << setting.name;
    EXPECT_EQ(setting.later, setting.type.wanted.empty()) << setting.name;
    EXPECT_EQ(static_cast<bool>(setting.applies), !setting.applies_text.empty()) << setting.name;
    for (const auto& decider : setting.decided_by) {
      EXPECT_NE(find_setting(table, decider), nullptr) << decider;
    }
    for (const auto& alias : setting.aliases) {
      EXPECT_TRUE(names.insert(alias.name).second) << alias.name << " stands for two settings";
      EXPECT_FALSE(alias.peers.empty()) << alias.name;
    }
  }
  for (const auto& name : names) {
    if (foreign_names_too) {
      EXPECT_EQ(find_foreign_key(name), nullptr) << name << " is a setting, and refused as another tool's key";
    }
  }
}

TEST(SettingsTable, RowsAreWhole) {
  expect_whole(run_settings(), true);
  expect_whole(dataset_settings(), false);
}

// Sets each working setting alone to what it shows by default, by its canonical name and by every other one.
TEST(SettingsTable, EveryNameIsRead) {
  const test::TempFolder folder;
  size_t read = 0;
  for (const auto& setting : run_settings()) {
    if (setting.later || setting.type.kind == Kind::kRecords) {
      continue;
    }
    auto value = setting.show(RunOptions());
    const bool example = value.is_null() || setting.required;
    if (example) {
      value = setting.type.kind == Kind::kInteger || setting.type.kind == Kind::kNumber ? io::Json(4)
              : setting.type.kind == Kind::kBoolean                                     ? io::Json(true)
              : setting.type.kind == Kind::kChoice ? choice_json(setting.type.choices.front())
              : setting.name == "gpu_memory_limit" ? io::Json("22GiB")
              : setting.name == "lora_layers"      ? io::Json({0, 2})
              : setting.name == "max_time"         ? io::Json("11h30m")
                                                   : io::Json("some");
    }
    std::vector<Alias> names{{setting.name, "", Translation::kSame}};
    names.insert(names.end(), setting.aliases.begin(), setting.aliases.end());
    for (const auto& name : names) {
      std::string text = value.dump();
      if (name.translation == Translation::kInverse) {
        text = value == io::Json(true) || value == io::Json("block") ? "false" : "true";
      } else if (name.translation == Translation::kBits) {
        text = "4";
      } else if (name.translation == Translation::kOneLayer || name.translation == Translation::kLastLayers) {
        text = "2";
      }
      std::string yaml = name.name + ": " + text + "\n";
      for (const char* required : {"base_model", "datasets", "output_dir"}) {
        yaml += setting.name == required ? "" : std::string(required) + ": some-" + required + "\n";
      }
      if (setting.applies_text.find("validation") != std::string::npos) {
        yaml += "val_set_size: 0.5\n";
      }
      for (const char* decider : {"eval_steps", "early_stopping_patience", "loss_watchdog_threshold"}) {
        if (setting.applies_text.find(decider) != std::string::npos) {
          yaml += std::string(decider) + ": 2\n";
        }
      }
      if (setting.applies_text.find("eval_prompts") != std::string::npos) {
        yaml += "val_set_size: 0.5\neval_prompts: prompts.jsonl\n";
      }
      if (setting.name == "early_stopping_min_delta") {
        yaml += "val_set_size: 0.5\neval_steps: 2\n";
      }
      if (setting.applies_text.find("qlora") != std::string::npos) {
        yaml += "adapter: qlora\n";
      }
      if (setting.applies_text.find("eval_sample_packing") != std::string::npos) {
        yaml += "sample_packing: true\n";
      }
      try {
        (void)load_settings({.files = {folder.write("run.yaml", yaml)}});
        ++read;
      } catch (const ConfigError& error) {
        ADD_FAILURE() << yaml << error.what();
      }
    }
  }
  EXPECT_GE(read, kWorks.size() - 2);
}

std::string slip_of(std::string word, std::mt19937& random) {
  const auto letter = [&] { return static_cast<char>('a' + random() % 26); };
  const auto at = random() % word.size();
  switch (random() % 4) {
    case 0:
      word[at] = letter();
      break;
    case 1:
      word.insert(at, 1, letter());
      break;
    case 2:
      word.erase(at, 1);
      break;
    default:
      std::swap(word[at], word[(at + 1) % word.size()]);
  }
  return word;
}

TEST(SettingsTable, SlipsOfThePenAreRefusedAndTheRightNameIsSuggested) {
  std::mt19937 random(7);
  size_t slips = 0;
  size_t right = 0;
  for (const auto& setting : run_settings()) {
    for (int i = 0; i < 3;) {
      const auto slip = slip_of(setting.name, random);
      if (slip.empty() || find_name(slip).setting != nullptr) {
        continue;  // no slip, or another name
      }
      ++i;
      ++slips;
      const auto text = refusal_of(slip);
      ASSERT_THAT(text, HasSubstr(slip));
      const auto hint = text.find("did you mean ");
      if (hint != std::string::npos) {
        const auto suggested = text.substr(hint + 13, text.size() - hint - 14);
        right += find_name(suggested).setting == &setting ? 1 : 0;
      }
    }
  }
  EXPECT_EQ(slips, 3 * run_settings().size());
  EXPECT_GE(static_cast<double>(right), 0.9 * static_cast<double>(slips));
  std::cout << right << " of " << slips << " suggestions are right\n";
}

// The keys of the tools' own files for Phi-3: Axolotl's phi3-ft and lora-3.5, LitGPT's and torchtune's QLoRA, TRL's
// SFT.
TEST(SettingsTable, KeysOfOtherToolsAreKnown) {
  const std::vector<std::string> top{
      "base_model", "model_type", "tokenizer_type", "load_in_8bit", "load_in_4bit", "strict", "datasets",
      "dataset_prepared_path", "val_set_size", "output_dir", "sequence_len", "sample_packing", "pad_to_sequence_len",
      "trust_remote_code", "adapter", "lora_model_dir", "lora_r", "lora_alpha", "lora_dropout", "lora_target_linear",
      "lora_fan_in_fan_out", "wandb_project", "wandb_entity", "wandb_watch", "wandb_name", "wandb_log_model",
      "gradient_accumulation_steps", "micro_batch_size", "num_epochs", "optimizer", "adam_beta2", "adam_epsilon",
      "max_grad_norm", "lr_scheduler", "learning_rate", "train_on_inputs", "group_by_length", "bf16", "bfloat16",
      "fp16", "tf32", "gradient_checkpointing", "gradient_checkpointing_kwargs", "early_stopping_patience",
      "resume_from_checkpoint", "local_rank", "logging_steps", "xformers_attention", "flash_attention", "s2_attention",
      "warmup_steps", "evals_per_epoch", "saves_per_epoch", "debug", "deepspeed", "weight_decay", "fsdp", "fsdp_config",
      "resize_token_embeddings_to_32x", "special_tokens", "chat_template", "eval_table_size", "eval_max_new_tokens",
      // LitGPT
      "checkpoint_dir", "out_dir", "precision", "quantize", "devices", "lora_query", "lora_key", "lora_value",
      "lora_projection", "lora_mlp", "lora_head", "data", "train", "eval", "logger_name", "seed",
      // torchtune
      "model", "tokenizer", "checkpointer", "dataset", "shuffle", "batch_size", "loss", "epochs", "max_steps_per_epoch",
      "compile", "metric_logger", "log_every_n_steps", "log_peak_memory_stats", "device", "dtype",
      "enable_activation_checkpointing", "profiler",
      // TRL
      "model_name_or_path", "dataset_name", "dataset_text_field", "torch_dtype", "attn_implementation", "use_peft",
      "lora_target_modules", "lora_task_type", "num_train_epochs", "per_device_train_batch_size",
      "per_device_eval_batch_size", "max_length", "packing", "assistant_only_loss", "lr_scheduler_type", "warmup_ratio",
      "eval_strategy", "eval_steps", "save_strategy", "save_steps", "report_to", "push_to_hub", "hub_model_id"};
  for (const auto& name : top) {
    EXPECT_TRUE(find_name(name).setting != nullptr || find_foreign_key(name) != nullptr) << name;
  }
  for (const auto* name : {"path", "type", "field_messages", "message_field_role", "message_field_content", "roles"}) {
    EXPECT_TRUE(find_dataset_key(name) != nullptr || find_foreign_key(name) != nullptr) << name;
  }
}

TEST(SettingsTexts, SchemaListsWhatWorksAndItsOtherNames) {
  const auto schema = io::Json::parse(settings_schema());
  const auto& properties = schema.at("properties");
  size_t names = 0;
  for (const auto& setting : run_settings()) {
    EXPECT_EQ(properties.contains(setting.name), !setting.later) << setting.name;
    names += setting.later ? 0 : 1 + setting.aliases.size();
  }
  EXPECT_EQ(properties.size(), names);
  EXPECT_EQ(schema.at("additionalProperties"), false);
  EXPECT_EQ(properties.at("lora_r").at("default"), 16);
}

TEST(SettingsTexts, ExplainKnowsEveryNameThatWorks) {
  for (const auto& name : setting_names()) {
    EXPECT_THAT(explain_setting(name.name), testing::StartsWith(name.setting + ": "));
    EXPECT_EQ(io::Json::parse(explain_setting_json(name.name)).at("name"), name.setting);
  }
  EXPECT_THAT(explain_setting("datasets.type"), testing::StartsWith("type: "));
  EXPECT_THROW((void)explain_setting("save_only_model"), ConfigError);
  EXPECT_THROW((void)explain_setting("nothing"), ConfigError);
}

TEST(SettingsTexts, TheListLeavesOutWhatDoesNotWorkYet) {
  const auto list = settings_markdown();
  for (const auto& setting : run_settings()) {
    EXPECT_EQ(list.find("| `" + setting.name + "` |") != std::string::npos, !setting.later) << setting.name;
  }
}

TEST(SettingsTexts, WhatIsShownReadsBackTheSame) {
  const test::TempFolder folder;
  const char* kFiles[] = {
      "base_model: m\ndatasets: [a.jsonl]\noutput_dir: o\n",
      "base_model: m\ndatasets: [{path: a, type: alpaca}]\noutput_dir: o\nadapter: qlora\nlora_target: q_proj\n"
      "global_batch_size: 16\nval_size: 0.1\neval_strategy: epoch\nlr_scheduler: constant\nbf16: true\n",
      "base_model: m\ndatasets: [a.jsonl]\noutput_dir: o\nlora_target_modules: '.*qkv_proj'\nwarmup_steps: 3\n"
      "lora_rank_pattern: {'o_proj$': 4}\nsample_packing: true\ntest_datasets: [b.jsonl]\nmax_steps: 9\n",
      "base_model: m\ndatasets: [a.jsonl]\noutput_dir: o\nlora_model_dir: old\nshuffle: false\n"};
  for (const char* yaml : kFiles) {
    const auto settings = resolve_settings({.files = {folder.write("run.yaml", yaml)}});
    ASSERT_EQ(settings.origins.size(), settings.options.resolved.size());
    const auto again = load_settings({.files = {folder.write("again.yaml", show_settings(settings))}});
    EXPECT_EQ(again.resolved, settings.options.resolved);
    EXPECT_TRUE(again.notes.empty()) << testing::PrintToString(again.notes);
    const auto json = io::Json::parse(show_settings_json(settings));
    EXPECT_EQ(json.size(), settings.options.resolved.size());
  }
}

}  // namespace
}  // namespace phi3tune::config
