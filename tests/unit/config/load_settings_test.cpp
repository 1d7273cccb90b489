#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "phi3tune/config/settings.h"
#include "phi3tune/core/error.h"
#include "support/temp_folder.h"

namespace phi3tune::config {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using Pairs = std::vector<std::pair<std::string, std::string>>;

constexpr const char* kRequired = "base_model: base\ndatasets: [train.jsonl]\noutput_dir: out\n";

class LoadSettings : public testing::Test {
 protected:
  RunOptions load(const std::string& yaml, const Pairs& overrides = {}) {
    return load_settings({.files = {folder_.write("run.yaml", kRequired + yaml)}, .overrides = overrides});
  }
  std::string fault(const std::string& yaml, const Pairs& overrides = {}) {
    try {
      (void)load(yaml, overrides);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "no fault";
  }
  test::TempFolder folder_;
};

class EnvironmentVariable {
 public:
  EnvironmentVariable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~EnvironmentVariable() { unsetenv(name_); }
  EnvironmentVariable(const EnvironmentVariable&) = delete;
  EnvironmentVariable& operator=(const EnvironmentVariable&) = delete;

 private:
  const char* name_;
};

TEST_F(LoadSettings, RequiredOnesAloneLeaveTheDefaults) {
  const auto run = load("");
  EXPECT_EQ(run.method, AdapterMethod::kLora);
  EXPECT_EQ(run.lora.rank, 16);
  EXPECT_EQ(run.lora.target_modules, std::vector<std::string>{"all-linear"});
  EXPECT_EQ(run.schedule.learning_rate, 2e-4);
  EXPECT_EQ(run.schedule.warmup_ratio, 0.03);
  EXPECT_TRUE(run.notes.empty());
}

TEST_F(LoadSettings, ANumberIsTheSameHoweverItIsWritten) {
  for (const char* text : {"2e-4", "0.0002", "\"2e-4\"", "'0.0002'", "+2E-4", "2.0e-04"}) {
    EXPECT_EQ(load(std::string("learning_rate: ") + text + "\n").schedule.learning_rate, 2e-4) << text;
  }
  for (const char* text : {"200", "2e2", "\"200\"", "200.0"}) {
    EXPECT_EQ(load(std::string("max_steps: ") + text + "\n").schedule.max_steps, 200) << text;
  }
}

TEST_F(LoadSettings, YesAndOffAreBooleansWithANote) {
  EXPECT_TRUE(load("sample_packing: true\n").notes.empty());
  EXPECT_EQ(load("sample_packing: 'true'\n").notes.size(), 1U);
  const auto run = load("sample_packing: yes\nshuffle: Off\n");
  EXPECT_TRUE(run.data.sample_packing);
  EXPECT_FALSE(run.data.shuffle);
  EXPECT_THAT(run.notes, Contains(HasSubstr("run.yaml:4:17: sample_packing: \"yes\" is read as true")));
  EXPECT_THAT(run.notes, Contains(HasSubstr("run.yaml:5:10: shuffle: \"Off\" is read as false")));
}

// PEFT's number is one layer, mlx-lm's how many of the last.
TEST_F(LoadSettings, LayersAreListedOrTheLastOnes) {
  using Layers = std::vector<int64_t>;
  EXPECT_EQ(load("lora_layers: [2, 0]\n").lora.layers, (Layers{0, 2}));
  EXPECT_EQ(load("", {{"lora_layers", "1,3"}}).lora.layers, (Layers{1, 3}));
  EXPECT_EQ(load("lora_layers: last:8\n").lora.last_layers, 8);
  EXPECT_EQ(load("layers_to_transform: 3\n").lora.layers, Layers{3});
  EXPECT_EQ(load("layers_to_transform: [3, 4]\n").lora.layers, (Layers{3, 4}));
  EXPECT_EQ(load("num_layers: 8\n").lora.last_layers, 8);
  const auto all = load("num_layers: -1\n");
  EXPECT_FALSE(all.lora.last_layers.has_value());
  EXPECT_TRUE(all.lora.layers.empty());
}

TEST_F(LoadSettings, LaterSourcesWin) {
  const auto first =
      folder_.write("a.yaml", std::string(kRequired) + "lora_r: 1\nlora_alpha: 1\nseed: 1\nthreads: 1\n");
  const auto second = folder_.write("b.yaml", "lora_alpha: 2\nseed: 2\nthreads: 2\n");
  const EnvironmentVariable seed("PHI3_TUNE__SEED", "3");
  const EnvironmentVariable threads("PHI3_TUNE__THREADS", "3");
  const auto run = load_settings({.files = {first, second}, .overrides = {{"threads", "9"}, {"threads", "4"}}});
  EXPECT_EQ(run.lora.rank, 1);
  EXPECT_EQ(run.lora.alpha, 2);
  EXPECT_EQ(run.schedule.seed, 3);
  EXPECT_EQ(run.compute.threads, 4);
}

TEST_F(LoadSettings, ALaterSourceMayUseAnotherNameAndSetBackToTheDefault) {
  EXPECT_EQ(load("lora_r: 8\n", {{"lora_rank", "4"}}).lora.rank, 4);
  EXPECT_EQ(load("lora_r: 8\n", {{"lora-r", "4"}}).lora.rank, 4);
  EXPECT_EQ(load("lora_r: 8\n", {{"lora_r", "null"}}).lora.rank, 16);
}

TEST_F(LoadSettings, TheEnvironmentIsASourceOfItsOwn) {
  const EnvironmentVariable steps("PHI3_TUNE__WARMUP_STEPS", "5");
  const EnvironmentVariable rank("PHI3_TUNE__LORA_RANK", "2");
  const auto run = load("warmup_ratio: 0.1\nlora_r: 8\n");
  EXPECT_EQ(run.schedule.warmup_steps, 5);
  EXPECT_EQ(run.lora.rank, 2);
  EXPECT_EQ(load("", {{"lora_r", "3"}}).lora.rank, 3);
}

TEST_F(LoadSettings, UnknownNamesOfTheEnvironmentAreFaults) {
  const EnvironmentVariable typo("PHI3_TUNE__LORA_RNK", "3");
  EXPECT_THAT(fault(""), HasSubstr("environment PHI3_TUNE__LORA_RNK: lora_rnk is not a setting; did you mean"));
}

TEST_F(LoadSettings, PathsLeadIntoLists) {
  const EnvironmentVariable samples("PHI3_TUNE__DATASETS__0__SAMPLES", "7");
  const auto run = load("", {{"datasets.1.path", "more.jsonl"}, {"datasets.1.type", "alpaca"}});
  ASSERT_EQ(run.data.datasets.size(), 2U);
  EXPECT_EQ(run.data.datasets[0].path, folder_ / "train.jsonl");
  EXPECT_EQ(run.data.datasets[0].samples, 7);
  EXPECT_EQ(run.data.datasets[1].path, "more.jsonl");
  EXPECT_EQ(run.data.datasets[1].format, RecordFormat::kAlpaca);
  EXPECT_THAT(fault("", {{"datasets.5.path", "x"}}), HasSubstr("datasets.5.path leads nowhere"));
}

TEST_F(LoadSettings, InputPathsAreRelativeToTheirFileAndOutputToTheCurrentFolder) {
  const auto file = folder_.write("deep/run.yaml",
                                  "base_model: ../models/m/\ntokenizer_path: /abs/tok\ndatasets: [data/*.jsonl]\n"
                                  "output_dir: runs/x\nlora_model_dir: old\n");
  const auto run = load_settings({.files = {file}});
  EXPECT_EQ(run.model.base_model, folder_ / "models/m");
  EXPECT_EQ(run.model.tokenizer_path, "/abs/tok");
  EXPECT_EQ(run.data.datasets[0].path, folder_ / "deep/data/*.jsonl");
  EXPECT_EQ(run.lora.init_adapter, folder_ / "deep/old");
  EXPECT_EQ(run.output.output_dir, "runs/x");
  EXPECT_EQ(load_settings({.files = {file}, .overrides = {{"base_model", "here"}}}).model.base_model, "here");
}

TEST_F(LoadSettings, TokenizerComesFromTheBase) { EXPECT_EQ(load("").model.tokenizer_path, folder_ / "base"); }

TEST_F(LoadSettings, VariablesExpand) {
  const EnvironmentVariable name("PHI3TUNE_TEST_NAME", "nine");
  EXPECT_EQ(load("run_name: a-${PHI3TUNE_TEST_NAME}-b\n").output.run_name, "a-nine-b");
  EXPECT_EQ(load("run_name: ${PHI3TUNE_TEST_NONE:-else}\n").output.run_name, "else");
  EXPECT_EQ(load("run_name: $${HOME} $x\n").output.run_name, "${HOME} $x");
  EXPECT_EQ(load("lora_r: ${PHI3TUNE_TEST_NONE:-8}\n").lora.rank, 8);
  EXPECT_EQ(load("run_name: ${PHI3TUNE_TEST_NONE}\n", {{"run_name", "x"}}).output.run_name, "x");
}

TEST_F(LoadSettings, OtherToolsNamesAreReadWithANote) {
  const auto run = load(
      "lora_rank: 4\nper_device_train_batch_size: 3\ncutoff_len: 64\noptim: adamw_torch\nassistant_only_loss: false\n"
      "disable_gradient_checkpointing: true\nfinetuning_type: lora\nlr_scheduler_type: linear\nval_size: 0.25\n");
  EXPECT_EQ(run.lora.rank, 4);
  EXPECT_EQ(run.schedule.micro_batch_size, 3);
  EXPECT_EQ(run.data.sequence_len, 64);
  EXPECT_TRUE(run.data.train_on_inputs);
  EXPECT_EQ(run.compute.saved_activations, SavedActivations::kNone);
  EXPECT_EQ(run.schedule.scheduler, Scheduler::kLinear);
  EXPECT_EQ(run.data.val_set_size, 0.25);
  EXPECT_EQ(run.notes.size(), 9U);
  EXPECT_THAT(run.notes, Contains(HasSubstr("run.yaml:4:1: lora_rank is read as lora_r")));
  EXPECT_THAT(run.notes, Contains(HasSubstr("assistant_only_loss is read as train_on_inputs, inverted")));
}

TEST_F(LoadSettings, TwoNamesWithOneValueAreNoFault) { EXPECT_EQ(load("lora_rank: 4\nlora_r: 4.0\n").lora.rank, 4); }

TEST_F(LoadSettings, LoraOverFourBitsIsQlora) {
  EXPECT_EQ(load("finetuning_type: lora\nquantization_bit: 4\n").method, AdapterMethod::kQlora);
  EXPECT_EQ(load("adapter: qlora\nload_in_4bit: true\n").method, AdapterMethod::kQlora);
  EXPECT_EQ(load("load_in_4bit: true\n", {{"adapter", "lora"}}).method, AdapterMethod::kLora);
}

TEST_F(LoadSettings, SplitNamesBecomeFusedOnes) {
  const auto run = load("lora_target_modules: [q_proj, k_proj, v_proj, up_proj, o_proj]\n");
  EXPECT_THAT(run.lora.target_modules, ElementsAre("qkv_proj", "gate_up_proj", "o_proj"));
  EXPECT_THAT(run.notes, ElementsAre(HasSubstr("q_proj, k_proj, v_proj are part of qkv_proj, which Phi-3 keeps fused"),
                                     HasSubstr("up_proj is part of gate_up_proj")));
  EXPECT_THAT(load("lora_target: q_proj,v_proj\n").lora.target_modules, ElementsAre("qkv_proj"));
}

TEST_F(LoadSettings, TargetsAreAllNamesOrARegularExpression) {
  EXPECT_THAT(load("lora_target: all\n").lora.target_modules, ElementsAre("all-linear"));
  EXPECT_THAT(load("lora_target_modules: qkv_proj\n").lora.target_modules, ElementsAre("qkv_proj"));
  EXPECT_THAT(load("lora_target_linear: true\n").lora.target_modules, ElementsAre("all-linear"));
  const auto run = load("lora_target_modules: '.*\\.[0-7]\\..*qkv_proj'\n");
  EXPECT_EQ(run.lora.target_regex, ".*\\.[0-7]\\..*qkv_proj");
  EXPECT_THAT(load("", {{"lora_target_modules", "[o_proj, down_proj]"}}).lora.target_modules,
              ElementsAre("o_proj", "down_proj"));
}

TEST_F(LoadSettings, PatternsKeepTheirOrder) {
  const auto run = load("lora_rank_pattern: {b.*: 8, a.*: 4}\nlora_alpha_pattern: {o_proj: 2.5}\n");
  EXPECT_THAT(run.lora.rank_pattern, ElementsAre(testing::Pair("b.*", 8), testing::Pair("a.*", 4)));
  EXPECT_THAT(run.lora.alpha_pattern, ElementsAre(testing::Pair("o_proj", 2.5)));
}

TEST_F(LoadSettings, AHigherSourceSettlesRivals) {
  auto run = load("warmup_ratio: 0.1\n", {{"warmup_steps", "5"}});
  EXPECT_EQ(run.schedule.warmup_steps, 5);
  EXPECT_THAT(run.notes, Contains(HasSubstr("warmup_ratio is replaced by warmup_steps (command line)")));
  run = load("warmup_steps: 5\n", {{"warmup_ratio", "0.1"}});
  EXPECT_FALSE(run.schedule.warmup_steps.has_value());
  EXPECT_EQ(run.schedule.warmup_ratio, 0.1);
  run = load("micro_batch_size: 2\ngradient_accumulation_steps: 3\n", {{"global_batch_size", "16"}});
  EXPECT_EQ(run.schedule.gradient_accumulation_steps, 8);
  run = load("lora_target_modules: [o_proj]\n", {{"lora_target_regex", ".*qkv_proj"}});
  EXPECT_EQ(run.lora.target_regex, ".*qkv_proj");
  EXPECT_THAT(run.lora.target_modules, ElementsAre("all-linear"));
}

TEST_F(LoadSettings, ZeroOfARivalAsksForNothing) {
  EXPECT_EQ(load("warmup_steps: 0\nwarmup_ratio: 0.2\n").schedule.warmup_ratio, 0.2);
  EXPECT_FALSE(load("warmup_steps: 0\nwarmup_ratio: 0.2\n").schedule.warmup_steps.has_value());
  EXPECT_EQ(load("warmup_steps: 0\n").schedule.warmup_steps, 0);
  EXPECT_EQ(load("val_set_size: 0\ntest_datasets: [b.jsonl]\n").data.test_datasets.size(), 1U);
}

TEST_F(LoadSettings, WhatAHigherSourceMakesUselessIsSaidAndLeftOut) {
  const auto run =
      load("adapter: qlora\nbnb_4bit_use_double_quant: false\nquant_block_size: 128\n", {{"adapter", "lora"}});
  EXPECT_TRUE(run.quant.double_quant);
  EXPECT_EQ(run.quant.block_size, 64);
  EXPECT_THAT(run.notes, Contains(HasSubstr("quant_block_size is not used: it is for runs where adapter is qlora")));
  const auto packed = load("group_by_length: true\n", {{"sample_packing", "true"}});
  EXPECT_FALSE(packed.data.group_by_length);
}

TEST_F(LoadSettings, GroupingDrawsFromTheDatasSeed) {
  const auto run = load("group_by_length: true\ndata_seed: 9223372036854775807\n");
  EXPECT_TRUE(run.data.group_by_length);
  EXPECT_EQ(run.schedule.data_seed, 9223372036854775807);
  const auto unshuffled = load("group_by_length: true\n", {{"shuffle", "false"}});
  EXPECT_FALSE(unshuffled.data.group_by_length);
  EXPECT_THAT(unshuffled.notes, Contains(HasSubstr("group_by_length is not used: it is for runs where")));
}

TEST_F(LoadSettings, TheLargestNumbersAreRead) {
  const auto run = load(
      "micro_batch_size: 1048576\ngradient_accumulation_steps: 2147483647\nmax_steps: 2147483647\nlora_alpha: 1e6\n"
      "learning_rate: 1e30\nval_set_size: 2147483647\neval_batch_size: 1048576\n");
  EXPECT_EQ(run.schedule.gradient_accumulation_steps, 2147483647);
  EXPECT_EQ(run.schedule.max_steps, 2147483647);
  EXPECT_EQ(run.schedule.eval_batch_size, 1048576);
}

TEST_F(LoadSettings, AnOldAdapterBringsItsShape) {
  const auto run = load("lora_r: 4\nlora_dropout: 0.1\n", {{"lora_model_dir", "old"}});
  EXPECT_EQ(run.lora.rank, 16);
  EXPECT_EQ(run.lora.dropout, 0.1);
  for (const auto& [name, value] : run.resolved) {
    EXPECT_NE(name, "lora_r");
  }
}

TEST_F(LoadSettings, TheTrainersWordsForSchedulesAreRead) {
  EXPECT_FALSE(load("max_steps: -1\n").schedule.max_steps.has_value());
  auto run = load("warmup_steps: 0.1\n");
  EXPECT_EQ(run.schedule.warmup_ratio, 0.1);
  EXPECT_FALSE(run.schedule.warmup_steps.has_value());
  run = load("val_set_size: 10\neval_strategy: epoch\n");
  EXPECT_EQ(run.eval.evals_per_epoch, 1);
  EXPECT_EQ(run.data.val_set_size, 10);
  EXPECT_EQ(load("val_set_size: 0.1\neval_strategy: steps\neval_steps: 0.2\n").eval.eval_steps, 0.2);
  EXPECT_EQ(load("lr_scheduler: constant\n").schedule.warmup_ratio, 0);
}

TEST_F(LoadSettings, ChoicesAreRead) {
  const auto run = load(
      "gradient_checkpointing: true\nbf16: false\ndevice: cuda:2\nexcess_length_strategy: split\nprogress: json\n"
      "chat_template: phi_35\nlora_init: gaussian\n");
  EXPECT_EQ(run.compute.saved_activations, SavedActivations::kBlock);
  EXPECT_EQ(run.compute.dtype, ComputeDType::kFloat32);
  EXPECT_EQ(run.compute.device, DeviceKind::kCuda);
  EXPECT_EQ(run.compute.device_index, 2);
  EXPECT_EQ(run.data.excess_length, ExcessLength::kSplit);
  EXPECT_EQ(run.output.progress, OutputOptions::Progress::kJson);
  EXPECT_EQ(run.data.chat_template, "phi_35");
  EXPECT_EQ(run.lora.init, LoraOptions::Init::kGaussian);
}

TEST_F(LoadSettings, SavedActivationsHaveEveryToolsSpelling) {
  const auto saved = [&](const std::string& text) { return load(text).compute.saved_activations; };
  EXPECT_EQ(saved(""), SavedActivations::kAuto);
  for (const auto* none : {"none", "false", "off"}) {
    EXPECT_EQ(saved(std::string("gradient_checkpointing: ") + none + "\n"), SavedActivations::kNone);
  }
  EXPECT_EQ(saved("gradient_checkpointing: gate_up\n"), SavedActivations::kGateUp);
  EXPECT_EQ(saved("gradient_checkpointing: attention\n"), SavedActivations::kAttention);
  EXPECT_EQ(saved("gradient_checkpointing: selective\n"), SavedActivations::kAttention);
  EXPECT_EQ(saved("gradient_checkpointing: block\n"), SavedActivations::kBlock);
  EXPECT_EQ(saved("gradient_checkpointing: offload\n"), SavedActivations::kOffload);
  EXPECT_EQ(saved("activation_offloading: true\n"), SavedActivations::kOffload);
  EXPECT_EQ(saved("gradient_checkpointing: true\nactivation_offloading: true\n"), SavedActivations::kOffload);
  EXPECT_EQ(saved("gradient_checkpointing: true\nenable_activation_offloading: false\n"), SavedActivations::kBlock);
  EXPECT_THROW((void)saved("gradient_checkpointing: none\nactivation_offloading: true\n"), ConfigError);
  EXPECT_THROW((void)saved("gradient_checkpointing: offload\nactivation_offloading: false\n"), ConfigError);
  // The command line wins over the file, whichever of the two it names.
  EXPECT_EQ(load("activation_offloading: true\n", {{"gradient_checkpointing", "none"}}).compute.saved_activations,
            SavedActivations::kNone);
  EXPECT_EQ(load("gradient_checkpointing: none\n", {{"activation_offloading", "true"}}).compute.saved_activations,
            SavedActivations::kOffload);
}

TEST_F(LoadSettings, MicroBatchesMayBeLeftToThePlan) {
  auto run = load("micro_batch_size: auto\nglobal_batch_size: 24\n");
  EXPECT_EQ(run.schedule.micro_batch_size, 0);
  EXPECT_EQ(run.schedule.gradient_accumulation_steps, 24);
  EXPECT_EQ(load("micro_batch_size: auto\n").schedule.gradient_accumulation_steps, 8);
  EXPECT_EQ(load("micro_batch_size: 3\n").schedule.micro_batch_size, 3);
  EXPECT_THROW((void)load("micro_batch_size: 0\n"), ConfigError);
  EXPECT_THROW((void)load("micro_batch_size: automatic\n"), ConfigError);
}

TEST_F(LoadSettings, TheLimitOfAGpuIsASize) {
  EXPECT_EQ(load("gpu_memory_limit: 22GiB\n").compute.gpu_memory_limit, uint64_t{22} << 30);
  EXPECT_FALSE(load("").compute.gpu_memory_limit.has_value());
  EXPECT_THROW((void)load("gpu_memory_limit: much\n"), ConfigError);
  EXPECT_THROW((void)load("gpu_memory_limit: 22GiB\ndevice: cpu\n"), ConfigError);
}

TEST_F(LoadSettings, DatasetKeysAreRead) {
  const auto run = load_settings({.files = {folder_.write("run.yaml", R"(base_model: m
output_dir: o
datasets:
  - path: a.jsonl
    type: sharegpt
    field_messages: conversations
    message_property_mappings: {role: from, content: value}
    roles_to_train: [gpt, assistant]
    train_on_eos: last
    message_field_weight: w
    message_field_training: t
    max_samples: 12
test_datasets:
  - path: b.jsonl
)")}});
  const auto& dataset = run.data.datasets.at(0);
  EXPECT_EQ(dataset.format, RecordFormat::kShareGpt);
  EXPECT_EQ(dataset.field_messages, "conversations");
  EXPECT_EQ(dataset.field_role, "from");
  EXPECT_EQ(dataset.field_content, "value");
  EXPECT_THAT(dataset.roles_to_train, ElementsAre("gpt", "assistant"));
  EXPECT_EQ(dataset.train_on_eos, TrainOnEos::kLast);
  EXPECT_EQ(dataset.message_field_weight, "w");
  EXPECT_EQ(dataset.message_field_training, "t");
  EXPECT_EQ(dataset.samples, 12);
  EXPECT_EQ(run.data.test_datasets.at(0).path, folder_ / "b.jsonl");
}

TEST_F(LoadSettings, AllowedUnknownKeysAreSkippedWithANote) {
  const auto file = folder_.write("run.yaml", std::string(kRequired) + "wandb_project: x\nsave_only_model: true\n");
  const auto run = load_settings({.files = {file}, .allow_unknown = {"wandb_project", "save_only_model"}});
  EXPECT_THAT(run.notes, ElementsAre(HasSubstr("run.yaml:4:1: wandb_project is skipped"),
                                     HasSubstr("save_only_model is skipped")));
}

TEST_F(LoadSettings, EmptyAdapterIsSaidToBeLora) {
  EXPECT_THAT(load("adapter:\n").notes, ElementsAre(HasSubstr("run.yaml:4:1: adapter is empty and read as lora")));
}

}  // namespace
}  // namespace phi3tune::config
