// Adapters whose q, k, v (gate, up) are apart, read onto the fused linears.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adapters.h"
#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/checkpoint/merge.h"
#include "phi3tune/core/error.h"
#include "phi3tune/phi3/fused_adapter.h"
#include "support/references.h"
#include "support/temp_folder.h"
#include "support/tensors.h"
#include "tiny.h"

namespace phi3tune {
namespace {

using test::Pair;
using test::TempFolder;
using testing::AllOf;
using testing::HasSubstr;

// gqa: width 64, 4 heads of 16 over 2: q 64 rows, k and v 32 each.
const std::string kModel = PHI3TUNE_SOURCE_DIR "/tests/references/models/gqa";
const std::map<std::string, int64_t> kFirstRow{{"q_proj", 0}, {"k_proj", 64}, {"v_proj", 96}};
const std::map<std::string, int64_t> kRows{{"q_proj", 64}, {"k_proj", 32}, {"v_proj", 32}};

std::string attention(int64_t layer, const std::string& name) {
  return fmt::format("model.layers.{}.self_attn.{}", layer, name);
}

struct Split {
  std::map<std::string, Pair> modules;
  std::string config =
      R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj", "v_proj"]})";

  explicit Split(bool shared, const std::vector<std::string>& names = {"q_proj", "k_proj", "v_proj"}) {
    for (int64_t layer = 0; layer < 2; ++layer) {
      const auto a = at::randn({4, 64});
      for (const auto& name : names) {
        modules[attention(layer, name)] = {shared ? a : at::randn({4, 64}), at::randn({kRows.at(name), 4})};
      }
    }
  }
};

struct Loaded {
  phi3::AdapterConfig config;
  model::LoraAdapters adapters;
};
Loaded load(const std::string& folder, at::ScalarType dtype = at::kFloat) {
  const auto base = phi3::read_model_config(kModel);
  const auto config = phi3::read_fused_config(folder, base);
  model::LoraAdapters adapters(base, config, dtype, 3, false);
  checkpoint::load_adapter(folder, base, adapters);
  return {config, std::move(adapters)};
}

// The update of each part, from its own pair, in fp64; rows of parts that are not there are zero.
at::Tensor expected(const Split& split, int64_t layer, const std::map<std::string, double>& scales) {
  auto update = at::zeros({128, 64}, at::kDouble);
  for (const auto& [name, first] : kFirstRow) {
    const auto found = split.modules.find(attention(layer, name));
    if (found != split.modules.end()) {
      update.narrow(0, first, kRows.at(name))
          .copy_(at::mm(found->second.b.to(at::kDouble), found->second.a.to(at::kDouble)) * scales.at(name));
    }
  }
  return update;
}

at::Tensor update_of(const model::LoraPair& pair) {
  return at::mm(pair.b.to(at::kDouble), pair.a.to(at::kDouble)) * pair.scale;
}

const std::map<std::string, double> kTwice{{"q_proj", 2.0}, {"k_proj", 2.0}, {"v_proj", 2.0}};

TEST(SplitAdapter, SharedAKeepsItsRankAndIsTheSameUpdateToTheLastBit) {
  const TempFolder folder;
  const Split split(true);
  const auto [config, adapters] = load(test::write_adapter(folder / "a", split.modules, split.config));
  EXPECT_EQ(config.target_modules, std::vector<std::string>{"qkv_proj"});
  EXPECT_EQ(config.rank, 4);
  EXPECT_EQ(config.alpha, 8);
  ASSERT_EQ(adapters.pairs().size(), 2U);
  for (const auto& pair : adapters.pairs()) {
    EXPECT_EQ(pair.rank, 4);
    EXPECT_TRUE(at::equal(update_of(pair), expected(split, pair.layer, kTwice)));
  }
}

TEST(SplitAdapter, DifferentAStacksToThreeTimesTheRankWithBlockB) {
  const TempFolder folder;
  const Split split(false);
  const auto [config, adapters] = load(test::write_adapter(folder / "a", split.modules, split.config));
  EXPECT_EQ(config.rank, 12);
  EXPECT_EQ(config.alpha, 24);
  for (const auto& pair : adapters.pairs()) {
    EXPECT_EQ(pair.rank, 12);
    EXPECT_EQ(pair.scale, 2.0);
    EXPECT_TRUE(at::equal(update_of(pair), expected(split, pair.layer, kTwice)));
  }
}

TEST(SplitAdapter, APartThatIsNotAdaptedHasZeroRows) {
  const TempFolder folder;
  const Split split(false, {"q_proj", "v_proj"});
  auto text = split.config;
  text.replace(text.find("\"k_proj\", "), 10, "");
  const auto [config, adapters] = load(test::write_adapter(folder / "a", split.modules, text));
  EXPECT_EQ(config.rank, 8);
  for (const auto& pair : adapters.pairs()) {
    EXPECT_EQ(pair.b.narrow(0, 64, 32).abs().max().item<double>(), 0.0);
    EXPECT_TRUE(at::equal(update_of(pair), expected(split, pair.layer, kTwice)));
  }
}

TEST(SplitAdapter, OwnRanksAndScalesOfPartsBecomeOne) {
  const TempFolder folder;
  Split split(false);
  for (int64_t layer = 0; layer < 2; ++layer) {
    split.modules[attention(layer, "v_proj")] = {at::randn({2, 64}), at::randn({32, 2})};
  }
  split.config =
      R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true, "target_modules": ["q_proj", "k_proj",
          "v_proj"], "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"k_proj": 16}})";
  const auto [config, adapters] = load(test::write_adapter(folder / "a", split.modules, split.config));
  // rsLoRA: 8 / sqrt(4), 16 / sqrt(4), 8 / sqrt(2)
  const std::map<std::string, double> scales{{"q_proj", 4.0}, {"k_proj", 8.0}, {"v_proj", 8 / std::sqrt(2.0)}};
  EXPECT_TRUE(config.use_rslora);
  for (const auto& pair : adapters.pairs()) {
    EXPECT_EQ(pair.rank, 10);
    EXPECT_NEAR(pair.scale, 4.0, 1e-12);
    const auto wanted = expected(split, pair.layer, scales);
    // sqrt(2) of v_proj's ratio is rounded in float32.
    EXPECT_LE((update_of(pair) - wanted).abs().max().item<double>(), 1e-6 * wanted.abs().max().item<double>());
  }
}

TEST(SplitAdapter, HalfPrecisionIsTakenExactlyAndSavedFused) {
  const TempFolder folder;
  Split split(false);
  for (auto& [path, pair] : split.modules) {
    pair = {pair.a.to(at::kBFloat16), pair.b.to(at::kBFloat16)};
  }
  const auto [config, adapters] = load(test::write_adapter(folder / "a", split.modules, split.config));
  checkpoint::AdapterFiles files;
  files.card = test::tiny_card();
  checkpoint::save_adapter(folder / "fused", adapters, files);
  const auto again = load(folder / "fused");
  EXPECT_EQ(again.config.rank, 12);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(test::same_bits(again.adapters.pairs()[i].b, adapters.pairs()[i].b));
    EXPECT_TRUE(at::equal(update_of(again.adapters.pairs()[i]), expected(split, static_cast<int64_t>(i), kTwice)));
  }
}

// DoRA's lengths are of rows, so that a part's rows are the same in the fused linear.
Split with_magnitudes(Split split) {
  split.config.insert(1, R"("use_dora": true, )");
  for (auto& [path, pair] : split.modules) {
    pair.magnitude = at::rand({pair.b.size(0)}) + 0.5;
  }
  return split;
}

TEST(SplitAdapter, DorasMagnitudesStandInTheFusedRows) {
  for (const bool shared : {true, false}) {
    const TempFolder folder;
    const auto split = with_magnitudes(Split(shared));
    const auto path = test::write_adapter(folder / "a", split.modules, split.config);
    const auto [config, adapters] = load(path);
    EXPECT_TRUE(config.use_dora);
    EXPECT_FALSE(adapters.wants_magnitudes());
    for (const auto& pair : adapters.pairs()) {
      EXPECT_EQ(pair.rank, shared ? 4 : 12);
      EXPECT_TRUE(at::equal(update_of(pair), expected(split, pair.layer, kTwice)));
      std::vector<at::Tensor> magnitudes;
      for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
        magnitudes.push_back(split.modules.at(attention(pair.layer, name)).magnitude);
      }
      EXPECT_TRUE(test::same_bits(pair.magnitude, at::cat(magnitudes)));
    }

    // Each part's weight by itself in fp64, and the merged rows.
    checkpoint::MergeOptions options;
    options.out = folder / "merged";
    options.dtype = io::DType::kF32;
    options.verify = true;
    const auto report = checkpoint::merge(phi3::ModelFolder::open(kModel), path, options);
    EXPECT_LE(report.check->max_difference, 1e-5 * report.check->max_logit);
    const auto base = test::read_tensors(kModel + "/model.safetensors");
    const auto merged = test::read_tensors(folder / "merged/model.safetensors");
    for (const auto& [module, pair] : split.modules) {
      const auto name = module.substr(module.rfind('.') + 1);
      const auto fused = module.substr(0, module.rfind('.')) + ".qkv_proj.weight";
      auto rows = base.at(fused).narrow(0, kFirstRow.at(name), kRows.at(name)).to(at::kDouble);
      rows = rows + 2.0 * at::mm(pair.b.to(at::kDouble), pair.a.to(at::kDouble));
      rows = rows * (pair.magnitude.to(at::kDouble) / rows.norm(2, {1})).unsqueeze(1);
      const auto found = merged.at(fused).narrow(0, kFirstRow.at(name), kRows.at(name)).to(at::kDouble);
      EXPECT_LE((found - rows).abs().max().item<double>(), 1e-6 * rows.abs().max().item<double>()) << module;
    }
  }
}

// The lengths of rows without a pair are those of the base.
TEST(SplitAdapter, DoraOverSomeOfTheParts) {
  const TempFolder folder;
  auto split = with_magnitudes(Split(false, {"q_proj", "v_proj"}));
  split.config.replace(split.config.find("\"k_proj\", "), 10, "");
  const auto path = test::write_adapter(folder / "a", split.modules, split.config);
  EXPECT_THAT(test::message_of<CheckpointError>([&] { (void)load(path); }),
              AllOf(HasSubstr("model.layers.0.self_attn.qkv_proj: only some of its parts are adapted, with DoRA"),
                    HasSubstr("model.layers.1.self_attn.qkv_proj")));
}

TEST(SplitAdapter, DoraWithoutTheMagnitudeOfOnePart) {
  const TempFolder folder;
  auto split = with_magnitudes(Split(false));
  split.modules.at(attention(1, "k_proj")).magnitude = at::Tensor();
  const auto path = test::write_adapter(folder / "a", split.modules, split.config);
  EXPECT_THAT(test::message_of<CheckpointError>([&] { (void)load(path); }),
              HasSubstr("model.layers.1.self_attn.k_proj: lora_magnitude_vector is missing"));
}

TEST(SplitAdapter, WeightsTrainedWholeComeWithIt) {
  const TempFolder folder;
  Split split(false);
  split.config.insert(1, R"("modules_to_save": ["lm_head"], )");
  const auto base = phi3::read_model_config(kModel);
  const auto head = at::randn({base.vocab_size, base.hidden_size});
  const auto path = test::write_adapter(folder / "a", split.modules, split.config, {{"format", "pt"}},
                                        {{"base_model.model.lm_head.weight", head}});
  const auto [config, adapters] = load(path);
  ASSERT_EQ(adapters.whole_weights().size(), 1U);
  EXPECT_TRUE(test::same_bits(adapters.whole_weights()[0].value, head));
}

TEST(SplitAdapter, FaultsAreNamedTogether) {
  const TempFolder folder;
  Split split(false);
  split.modules.erase(attention(1, "v_proj"));
  split.modules[attention(0, "k_proj")].b = at::randn({64, 4});
  split.modules[attention(2, "q_proj")] = {at::randn({4, 64}), at::randn({64, 4})};
  const auto path = test::write_adapter(folder / "a", split.modules, split.config);
  EXPECT_THAT(test::message_of<CheckpointError>([&] { (void)load(path); }),
              AllOf(HasSubstr("model.layers.1.self_attn.v_proj is named by target_modules, and its lora_A"),
                    HasSubstr("k_proj.lora_B.weight has shape [64, 4]; the base's linear has 32 out"),
                    HasSubstr("model.layers.2.self_attn.q_proj is adapted, and the base has no such linear")));
}

TEST(SplitAdapter, FusedAndSplitAtOnceAreRefused) {
  const TempFolder folder;
  Split split(false);
  split.modules[attention(0, "qkv_proj")] = {at::randn({4, 64}), at::randn({128, 4})};
  split.modules[attention(1, "qkv_proj")] = {at::randn({4, 64}), at::randn({128, 4})};
  split.config.replace(split.config.find("[\"q_proj\""), 9, "[\"qkv_proj\", \"q_proj\"");
  const auto path = test::write_adapter(folder / "a", split.modules, split.config);
  EXPECT_THAT(test::message_of<CheckpointError>([&] { (void)load(path); }), HasSubstr("are both adapted"));
}

TEST(FusedAdapter, AFusedFolderKeepsItsOwnConfig) {
  const auto base = phi3::read_model_config(test::kTinyModel);
  const auto fused = phi3::fuse_adapter(phi3::AdapterFolder::open(test::kPeftAdapter), base);
  EXPECT_FALSE(fused.was_split);
  EXPECT_EQ(fused.modules.size(), 8U);
  EXPECT_EQ(phi3::adapter_config_text(fused.config),
            phi3::adapter_config_text(phi3::read_adapter_config(test::kPeftAdapter)));
}

TEST(DescribeModules, SaysEachRankAndScaleBriefly) {
  phi3::AdapterConfig config;
  std::vector<phi3::ModuleShape> modules;
  for (int layer = 0; layer < 2; ++layer) {
    modules.push_back({fmt::format("model.layers.{}.self_attn.qkv_proj", layer), 12, 2.0});
    modules.push_back({fmt::format("model.layers.{}.self_attn.o_proj", layer), 4, 2.0});
    modules.push_back({fmt::format("model.layers.{}.mlp.down_proj", layer), 4, layer == 0 ? 2.0 : 3.0});
  }
  phi3::describe_modules(config, modules, 2);
  EXPECT_EQ(config.rank, 4);
  EXPECT_EQ(config.target_modules, (std::vector<std::string>{"qkv_proj", "o_proj", "down_proj"}));
  ASSERT_EQ(config.rank_pattern.size(), 1U);
  EXPECT_EQ(config.rank_pattern[0].first, "qkv_proj");
  for (const auto& module : modules) {
    EXPECT_EQ(config.rank_of(module.path), module.rank) << module.path;
    EXPECT_DOUBLE_EQ(config.scale_of(module.path), module.scale) << module.path;
    EXPECT_TRUE(config.targets(module.path));
  }
  modules.pop_back();
  phi3::describe_modules(config, modules, 2);
  EXPECT_EQ(config.target_modules.size(), 5U);
  EXPECT_FALSE(config.targets("model.layers.1.mlp.down_proj"));
}

}  // namespace
}  // namespace phi3tune
