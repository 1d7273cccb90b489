#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/phi3/adapter_folder.h"
#include "support/temp_folder.h"

namespace phi3tune::phi3 {
namespace {

using io::Json;
using test::message_of;
using test::TempFolder;
using ::testing::HasSubstr;

const std::string kReferences = std::string(PHI3TUNE_SOURCE_DIR) + "/tests/references/adapters";

Json as_peft_writes() { return io::read_json_file<CheckpointError>(kReferences + "/mha/adapter_config.json"); }

TEST(AdapterConfig, ReadsWhatPeftWrites) {
  const auto config = parse_adapter_config(as_peft_writes(), "c");
  EXPECT_EQ(config.rank, 4);
  EXPECT_EQ(config.alpha, 8.0);
  EXPECT_EQ(config.dropout, 0.0);
  EXPECT_FALSE(config.use_rslora);
  EXPECT_EQ(config.target_modules, (std::vector<std::string>{"down_proj", "gate_up_proj", "o_proj", "qkv_proj"}));
  EXPECT_EQ(config.base_model_name_or_path, "mha");
}

// The portable set: every key and value of PEFT's own file that old readers know too.
TEST(AdapterConfig, WritesASubsetOfPeftsFileInItsLayout) {
  const auto text = adapter_config_text(parse_adapter_config(as_peft_writes(), "c"));
  EXPECT_EQ(text, R"({
  "alpha_pattern": {},
  "auto_mapping": null,
  "base_model_name_or_path": "mha",
  "bias": "none",
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "layers_pattern": null,
  "layers_to_transform": null,
  "loftq_config": {},
  "lora_alpha": 8,
  "lora_dropout": 0.0,
  "megatron_config": null,
  "megatron_core": "megatron.core",
  "modules_to_save": null,
  "peft_type": "LORA",
  "r": 4,
  "rank_pattern": {},
  "revision": null,
  "target_modules": [
    "down_proj",
    "gate_up_proj",
    "o_proj",
    "qkv_proj"
  ],
  "task_type": "CAUSAL_LM",
  "use_dora": false,
  "use_rslora": false
})");
  const auto peft = as_peft_writes();
  const auto ours = Json::parse(text);
  for (const auto& [key, value] : ours.items()) {
    ASSERT_TRUE(peft.contains(key)) << key;
    EXPECT_EQ(value, peft[key]) << key;
  }
}

TEST(AdapterConfig, EverythingItHoldsSurvivesWriting) {
  AdapterConfig config;
  config.rank = 12;
  config.alpha = 6.5;
  config.dropout = 0.05;
  config.use_rslora = true;
  config.target_regex = ".*\\.(o|down)_proj";
  config.rank_pattern = {{"layers.1.*.o_proj", 3}, {"a_proj", 5}};
  config.alpha_pattern = {{"o_proj", 2.0}};
  config.base_model_name_or_path = "caf\xC3\xA9 \"x\"";
  const auto again = parse_adapter_config(Json::parse(adapter_config_text(config)), "c");
  EXPECT_EQ(again.rank, 12);
  EXPECT_EQ(again.alpha, 6.5);
  EXPECT_EQ(again.dropout, 0.05);
  EXPECT_TRUE(again.use_rslora);
  EXPECT_EQ(again.target_regex, config.target_regex);
  EXPECT_EQ(again.rank_pattern, config.rank_pattern);
  EXPECT_EQ(again.alpha_pattern, config.alpha_pattern);
  EXPECT_EQ(again.base_model_name_or_path, config.base_model_name_or_path);
  EXPECT_THAT(adapter_config_text(config), HasSubstr("caf\\u00e9 \\\"x\\\""));
}

TEST(AdapterConfig, MatchesModulesAsPeftDoes) {
  AdapterConfig config;
  config.target_modules = {"o_proj", "model.layers.1.mlp.down_proj"};
  EXPECT_TRUE(config.targets("model.layers.0.self_attn.o_proj"));
  EXPECT_TRUE(config.targets("o_proj"));
  EXPECT_TRUE(config.targets("model.layers.1.mlp.down_proj"));
  EXPECT_FALSE(config.targets("model.layers.11.mlp.down_proj"));
  EXPECT_FALSE(config.targets("model.layers.0.self_attn.no_proj"));
  config.target_regex = "model\\.layers\\.[01]\\..*qkv_proj";
  EXPECT_TRUE(config.targets("model.layers.1.self_attn.qkv_proj"));
  EXPECT_FALSE(config.targets("model.layers.10.self_attn.qkv_proj"));
  EXPECT_FALSE(config.targets("x.model.layers.1.self_attn.qkv_proj"));
  EXPECT_FALSE(config.targets("model.layers.0.self_attn.o_proj"));
}

// peft.tuners.tuners_utils.check_target_module_exists: an entry that is the whole path is in whatever layer it says.
TEST(AdapterConfig, ChosenLayersAreOneOrSeveral) {
  Json json = as_peft_writes();
  json["target_modules"] = {"o_proj", "model.layers.0.mlp.down_proj"};
  json["layers_to_transform"] = {1, 12};
  const auto several = parse_adapter_config(json, "c");
  EXPECT_FALSE(several.targets("model.layers.0.self_attn.o_proj"));
  EXPECT_TRUE(several.targets("model.layers.1.self_attn.o_proj"));
  EXPECT_FALSE(several.targets("model.layers.2.self_attn.o_proj"));
  EXPECT_TRUE(several.targets("model.layers.12.self_attn.o_proj"));
  EXPECT_TRUE(several.targets("model.layers.0.mlp.down_proj"));
  EXPECT_FALSE(several.targets("model.layers.1.mlp.down_proj"));
  json["layers_to_transform"] = 2;
  json["layers_pattern"] = "layers";
  const auto one = parse_adapter_config(json, "c");
  EXPECT_FALSE(one.targets("model.layers.1.self_attn.o_proj"));
  EXPECT_TRUE(one.targets("model.layers.2.self_attn.o_proj"));
  const auto again = parse_adapter_config(Json::parse(adapter_config_text(several)), "c");
  EXPECT_EQ(again.layers, several.layers);
}

TEST(AdapterConfig, FirstMatchingPatternGivesRankAndAlpha) {
  AdapterConfig config;
  config.rank = 8;
  config.alpha = 16;
  config.rank_pattern = {{"layers.1.self_attn.o_proj", 2}, {"o_proj", 4}};
  config.alpha_pattern = {{"down_proj", 3.0}};
  EXPECT_EQ(config.rank_of("model.layers.1.self_attn.o_proj"), 2);
  EXPECT_EQ(config.rank_of("model.layers.2.self_attn.o_proj"), 4);
  EXPECT_EQ(config.rank_of("model.layers.2.self_attn.xo_proj"), 8);
  EXPECT_EQ(config.alpha_of("model.layers.2.mlp.down_proj"), 3.0);
  EXPECT_EQ(config.scale_of("model.layers.2.mlp.down_proj"), 3.0 / 8);
  config.use_rslora = true;
  EXPECT_EQ(config.scale_of("model.layers.1.self_attn.o_proj"), 16 / std::sqrt(2.0));
}

TEST(AdapterConfig, TwiceTheRankLeavesEveryScale) {
  AdapterConfig config;
  config.rank = 8;
  config.alpha = 12;
  config.rank_pattern = {{"o_proj", 2}};
  config.alpha_pattern = {{"down_proj", 3.0}};
  for (const bool rslora : {false, true}) {
    config.use_rslora = rslora;
    const auto doubled = with_doubled_rank(config);
    for (const auto* path :
         {"model.layers.0.self_attn.qkv_proj", "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"}) {
      EXPECT_EQ(doubled.rank_of(path), 2 * config.rank_of(path));
      EXPECT_NEAR(doubled.scale_of(path), config.scale_of(path), 1e-15 * config.scale_of(path)) << path;
    }
  }
}

struct BadAdapter {
  const char* name;
  std::function<void(Json&)> spoil;
  const char* message;
};
const BadAdapter kBadAdapters[] = {
    {"PromptTuning", [](Json& j) { j["peft_type"] = "PROMPT_TUNING"; }, "peft_type: found \"PROMPT_TUNING\""},
    {"NoType", [](Json& j) { j.erase("peft_type"); }, "peft_type: found nothing"},
    {"Bias", [](Json& j) { j["bias"] = "all"; }, "bias: found \"all\", wanted \"none\""},
    {"LoraBias", [](Json& j) { j["lora_bias"] = true; }, "lora_bias"},
    {"ModulesToSave",
     [](Json& j) {
       j["modules_to_save"] = {"lm_head", "norm"};
     },
     "modules_to_save: found \"norm\""},
    {"TrainableTokens", [](Json& j) { j["trainable_token_indices"] = {1}; }, "trainable_token_indices"},
    {"TargetParameters", [](Json& j) { j["target_parameters"] = {"x"}; }, "target_parameters"},
    {"LayersByName", [](Json& j) { j["layers_to_transform"] = {"0"}; }, "layers_to_transform: found [\"0\"]"},
    {"OtherLayers",
     [](Json& j) {
       j["layers_to_transform"] = 1;
       j["layers_pattern"] = "blocks";
     },
     "layers_pattern: found \"blocks\""},
    {"Excluded", [](Json& j) { j["exclude_modules"] = {"o_proj"}; }, "exclude_modules"},
    {"Pissa", [](Json& j) { j["init_lora_weights"] = "pissa_niter_4"; }, "changes the base weights too"},
    {"NoTargets", [](Json& j) { j["target_modules"] = nullptr; }, "target_modules: missing"},
    {"EmptyTargets", [](Json& j) { j["target_modules"] = Json::array(); }, "target_modules: found []"},
    {"BadRegex", [](Json& j) { j["target_modules"] = "a(b"; }, "pattern `a(b` cannot be used"},
    {"RankZero", [](Json& j) { j["r"] = 0; }, "r: found 0"},
    {"RankAsText", [](Json& j) { j["r"] = "8"; }, "r: found \"8\""},
    {"NoScale", [](Json& j) { j.erase("lora_alpha"); }, "lora_alpha: found nothing"},
    {"ScaleZero", [](Json& j) { j["lora_alpha"] = 0; }, "lora_alpha: found 0"},
    {"DropoutOne", [](Json& j) { j["lora_dropout"] = 1.0; }, "lora_dropout: found 1"},
    {"RankPattern",
     [](Json& j) {
       j["rank_pattern"] = {{"o_proj", 1.5}};
     },
     "\"o_proj\" is 1.5, wanted a whole number"},
    {"RankPatternRegex",
     [](Json& j) {
       j["rank_pattern"] = {{"o_(proj", 2}};
     },
     "rank_pattern: pattern"},
};
class RefusedAdapter : public ::testing::TestWithParam<BadAdapter> {};
TEST_P(RefusedAdapter, IsRefusedWithItsKey) {
  Json json = as_peft_writes();
  GetParam().spoil(json);
  const auto message = message_of<CheckpointError>([&] { parse_adapter_config(json, "dir/adapter_config.json"); });
  EXPECT_TRUE(message.starts_with("dir/adapter_config.json: ")) << message;
  EXPECT_THAT(message, HasSubstr(GetParam().message));
}
INSTANTIATE_TEST_SUITE_P(Configs, RefusedAdapter, ::testing::ValuesIn(kBadAdapters),
                         [](const auto& info) { return std::string(info.param.name); });
TEST(AdapterConfig, BadConfigsAreAllThere) { EXPECT_EQ(std::size(kBadAdapters), 21u); }

TEST(AdapterConfig, OldFilesWithoutTheNewKeysAreRead) {
  const auto config = parse_adapter_config(
      Json::parse(R"({"peft_type": "LORA", "r": 16, "lora_alpha": 32, "target_modules": "all-linear"})"), "c");
  EXPECT_EQ(config.rank, 16);
  EXPECT_TRUE(config.targets("model.layers.0.mlp.gate_up_proj"));
  EXPECT_FALSE(config.targets("lm_head"));
}

TEST(AdapterFolder, OpensEveryReferenceAdapter) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kReferences)) {
    const auto adapter = AdapterFolder::open(entry.path().string());
    EXPECT_EQ(adapter.modules().size(), 8u);
    EXPECT_EQ(adapter.modules()[0].path, "model.layers.0.mlp.down_proj");
    EXPECT_EQ(adapter.modules()[0].a->shape, (std::vector<int64_t>{adapter.config().rank, 64}));
    EXPECT_EQ(lora_tensor_name(adapter.modules()[0].path, 'B'), adapter.modules()[0].b->name);
    ++count;
  }
  EXPECT_EQ(count, 7u);
}

TEST(AdapterFolder, DoraHasAMagnitudeForEveryOutput) {
  const auto adapter = AdapterFolder::open(kReferences + "/gqa_dora");
  EXPECT_TRUE(adapter.config().use_dora);
  EXPECT_THAT(adapter_config_text(adapter.config()), HasSubstr("\"use_dora\": true"));
  for (const auto& module : adapter.modules()) {
    ASSERT_NE(module.magnitude, nullptr);
    EXPECT_EQ(module.magnitude->name, magnitude_tensor_name(module.path));
    EXPECT_EQ(module.magnitude->shape, std::vector<int64_t>{module.b->shape[0]});
  }
  const TempFolder folder;
  auto config = adapter.config();
  config.rank = 4;
  config.target_modules = {"o_proj"};
  const std::string module = "base_model.model.model.layers.0.self_attn.o_proj";
  const std::vector<float> zeros(64);
  const auto bytes = std::as_bytes(std::span(zeros));
  const auto write = [&](std::vector<io::TensorToWrite> more) {
    more.push_back({module + ".lora_A.weight", io::DType::kF32, {4, 8}, bytes.first(128)});
    more.push_back({module + ".lora_B.weight", io::DType::kF32, {8, 4}, bytes.first(128)});
    folder.write("adapter_config.json", adapter_config_text(config));
    io::write_safetensors(folder / "adapter_model.safetensors", std::move(more));
    return message_of<CheckpointError>([&] { AdapterFolder::open(folder.path()); });
  };
  EXPECT_THAT(write({}), HasSubstr("lora_magnitude_vector is missing, and use_dora of adapter_config.json is true"));
  EXPECT_THAT(write({{module + ".lora_magnitude_vector", io::DType::kF32, {4}, bytes.first(16)}}),
              HasSubstr("lora_magnitude_vector: shape [4], wanted [8]"));
}

// A folder with `tensors` of F32 zeros.
void write_adapter(const TempFolder& folder, const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors) {
  static const std::vector<float> kZeros(4096);
  std::vector<io::TensorToWrite> entries;
  for (const auto& [name, shape] : tensors) {
    size_t count = 1;
    for (const auto size : shape) {
      count *= static_cast<size_t>(size);
    }
    entries.push_back({name, io::DType::kF32, shape, std::as_bytes(std::span(kZeros).first(count))});
  }
  AdapterConfig config;
  config.rank = 4;
  config.target_modules = {"o_proj"};
  folder.write("adapter_config.json", adapter_config_text(config));
  io::write_safetensors(folder / "adapter_model.safetensors", entries);
}

TEST(AdapterFolder, EveryFaultIsALine) {
  const TempFolder folder;
  const std::string module = "base_model.model.model.layers.0.self_attn.o_proj";
  write_adapter(folder, {{module + ".lora_A.weight", {4, 8}}, {module + ".lora_B.weight", {8, 4}}});
  EXPECT_NO_THROW(AdapterFolder::open(folder.path()));
  write_adapter(folder, {{module + ".lora_A.weight", {3, 8}},
                         {module + ".lora_B.weight", {8, 3}},
                         {"base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight", {8, 4}},
                         {"base_model.model.model.layers.1.mlp.down_proj.lora_A.weight", {4, 8}},
                         {"base_model.model.model.layers.1.mlp.down_proj.lora_B.weight", {8, 4}},
                         {module + ".lora_magnitude_vector", {8}}});
  const auto message = message_of<CheckpointError>([&] { AdapterFolder::open(folder.path()); });
  EXPECT_THAT(message, HasSubstr("lora_magnitude_vector is there, and use_dora of adapter_config.json is false"));
  EXPECT_THAT(message, HasSubstr("lora_A.weight: shape [3, 8], wanted [4, in]"));
  EXPECT_THAT(message, HasSubstr("lora_B.weight: shape [8, 3], wanted [out, 4]"));
  EXPECT_THAT(message, HasSubstr("layers.1.self_attn.o_proj: lora_B is there, lora_A is missing"));
  EXPECT_THAT(message, HasSubstr("layers.1.mlp.down_proj is adapted, but target_modules"));
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 4) << message;
}

AdapterConfig o_proj_alone(int64_t rank) {
  AdapterConfig config;
  config.rank = rank;
  config.target_modules = {"o_proj"};
  return config;
}

TEST(AdapterFolder, PickleAndMissingFilesAreNamed) {
  const TempFolder folder;
  EXPECT_THAT(message_of<CheckpointError>([&] { AdapterFolder::open(folder / "none"); }), HasSubstr("no such folder"));
  EXPECT_THAT(message_of<CheckpointError>([&] { AdapterFolder::open(folder.path()); }),
              HasSubstr("adapter_config.json: cannot be read"));
  folder.write("adapter_config.json", adapter_config_text(o_proj_alone(8)));
  EXPECT_THAT(message_of<CheckpointError>([&] { AdapterFolder::open(folder.path()); }),
              HasSubstr("adapter_model.safetensors: missing"));
  folder.write("adapter_model.bin", "\x80\x02.");
  EXPECT_THAT(message_of<CheckpointError>([&] { AdapterFolder::open(folder.path()); }), HasSubstr("never opened"));
  folder.write("adapter_model.safetensors", "short");
  EXPECT_THAT(message_of<CheckpointError>([&] { AdapterFolder::open(folder.path()); }), HasSubstr("too short"));
}

TEST(AdapterFolder, ValuesThatAreNotFiniteAreNamed) {
  const std::string module = "base_model.model.model.layers.0.self_attn.o_proj";
  const auto write = [&](const TempFolder& folder, io::DType dtype, std::vector<uint16_t> values) {
    const std::vector<float> zeros(32);
    const auto bytes = std::as_bytes(std::span(values));
    folder.write("adapter_config.json", adapter_config_text(o_proj_alone(4)));
    const auto in = static_cast<int64_t>(bytes.size() / io::dtype_size(dtype) / 4);
    io::write_safetensors(folder / "adapter_model.safetensors",
                          {{module + ".lora_A.weight", dtype, {4, in}, bytes},
                           {module + ".lora_B.weight", io::DType::kF32, {8, 4}, std::as_bytes(std::span(zeros))}});
  };
  struct Pattern {
    io::DType dtype;
    std::vector<uint16_t> bad;  // the last value, from its lowest bits
    std::vector<uint16_t> largest;
  };
  const Pattern patterns[] = {{io::DType::kF32, {0, 0x7F80}, {0xFFFF, 0xFF7F}},
                              {io::DType::kF32, {1, 0xFFC0}, {1, 0x0080}},
                              {io::DType::kBF16, {0x7F80}, {0x7F7F}},
                              {io::DType::kF16, {0xFE00}, {0xFBFF}}};
  for (const auto& pattern : patterns) {
    const TempFolder folder;
    std::vector<uint16_t> values(16 * pattern.bad.size());
    std::copy(pattern.largest.begin(), pattern.largest.end(), values.end() - static_cast<int>(pattern.largest.size()));
    write(folder, pattern.dtype, values);
    EXPECT_NO_THROW(AdapterFolder::open(folder.path()));
    std::copy(pattern.bad.begin(), pattern.bad.end(), values.end() - static_cast<int>(pattern.bad.size()));
    write(folder, pattern.dtype, values);
    EXPECT_THAT(message_of<CheckpointError>([&] { AdapterFolder::open(folder.path()); }),
                HasSubstr(module + ".lora_A.weight holds values that are not finite"));
  }
}

TEST(AdapterFolder, NothingOutsideTheFolderIsRead) {
  const TempFolder folder;
  const TempFolder outside;
  outside.write("adapter_config.json",
                R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": "all-linear"})");
  std::filesystem::create_symlink(outside / "adapter_config.json", folder / "adapter_config.json");
  EXPECT_THAT(message_of<CheckpointError>([&] { read_adapter_config(folder.path()); }), HasSubstr("leads out"));
}

TEST(AdapterFolder, ManyFaultsAreCounted) {
  const TempFolder folder;
  const std::string module = "base_model.model.model.layers.";
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;
  for (int i = 0; i < 150; ++i) {
    tensors.push_back({"wrong" + std::to_string(i), {1}});
  }
  write_adapter(folder, tensors);
  const auto message = message_of<CheckpointError>([&] { AdapterFolder::open(folder.path()); });
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 100);
  EXPECT_THAT(message, HasSubstr("adapter_model.safetensors: and 50 more faults"));
}

}  // namespace
}  // namespace phi3tune::phi3
