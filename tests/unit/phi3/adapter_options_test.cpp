#include "phi3tune/phi3/adapter_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "phi3tune/core/error.h"

namespace phi3tune {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

phi3::ModelConfig three_layers() {
  phi3::ModelConfig config;
  config.num_layers = 3;
  return config;
}

phi3::AdapterConfig adapt(const config::LoraOptions& options) {
  return phi3::adapter_config_for(options, three_layers(), "base");
}

std::string fault(const config::LoraOptions& options) {
  try {
    adapt(options);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(AdapterOptions, AllLinearNamesTheFourFusedLinears) {
  EXPECT_THAT(adapt({}).target_modules, ElementsAre("qkv_proj", "o_proj", "gate_up_proj", "down_proj"));
}

TEST(AdapterOptions, ExcludedModulesAreLeftOut) {
  config::LoraOptions options;
  options.exclude_modules = {"o_proj"};
  EXPECT_THAT(adapt(options).target_modules, ElementsAre("qkv_proj", "gate_up_proj", "down_proj"));
}

TEST(AdapterOptions, ARegexOverSomeLayersBecomesTheirPaths) {
  config::LoraOptions options;
  options.target_regex = R"(model\.layers\.[12]\.mlp\.down_proj)";
  EXPECT_THAT(adapt(options).target_modules,
              ElementsAre("model.layers.1.mlp.down_proj", "model.layers.2.mlp.down_proj"));
}

TEST(AdapterOptions, SomeLayersBecomeTheirPaths) {
  config::LoraOptions options;
  options.target_modules = {"o_proj", "down_proj"};
  options.layers = {0, 2};
  EXPECT_THAT(adapt(options).target_modules,
              ElementsAre("model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj",
                          "model.layers.2.self_attn.o_proj", "model.layers.2.mlp.down_proj"));
  options.rank_pattern = {{"layers.2.mlp.down_proj", 2}};
  EXPECT_EQ(adapt(options).rank_of("model.layers.2.mlp.down_proj"), 2);
  options.rank_pattern = {{"layers.1.mlp.down_proj", 2}};
  EXPECT_THAT(fault(options), HasSubstr("matches no module that is adapted"));
  options.rank_pattern.clear();
  options.layers.clear();
  options.last_layers = 1;
  EXPECT_THAT(adapt(options).target_modules,
              ElementsAre("model.layers.2.self_attn.o_proj", "model.layers.2.mlp.down_proj"));
  options.last_layers = 3;
  EXPECT_THAT(adapt(options).target_modules, ElementsAre("o_proj", "down_proj"));
}

TEST(AdapterOptions, LayersThatAreNotThereAreRefused) {
  config::LoraOptions options;
  options.layers = {0, 3};
  EXPECT_THAT(fault(options), HasSubstr("lora_layers: there is no layer 3; this model has the layers 0 to 2"));
  options.layers.clear();
  options.last_layers = 4;
  EXPECT_THAT(fault(options), HasSubstr("lora_layers: last:4 asks for more layers than there are; this model has 3"));
}

TEST(AdapterOptions, AnEntryThatMatchesNothingIsNamed) {
  config::LoraOptions options;
  options.target_modules = {"qkv_proj", "lm_head"};
  EXPECT_THAT(fault(options), HasSubstr("\"lm_head\" matches no module"));
}

TEST(AdapterOptions, ExcludingEverythingIsRefused) {
  config::LoraOptions options;
  options.target_modules = {"o_proj"};
  options.exclude_modules = {"o_proj"};
  EXPECT_THAT(fault(options), HasSubstr("nothing is left to adapt"));
}

TEST(AdapterOptions, ABrokenRegexIsRefused) {
  config::LoraOptions options;
  options.target_regex = "(";
  EXPECT_THAT(fault(options), AllOf(HasSubstr("lora_target_regex"), HasSubstr("at character")));
}

TEST(AdapterOptions, APatternThatMatchesNoAdaptedModuleIsRefused) {
  config::LoraOptions options;
  options.rank_pattern = {{"q_proj", 4}};
  EXPECT_THAT(fault(options), HasSubstr("lora_rank_pattern: \"q_proj\" matches no module"));
  options.rank_pattern = {{"down_proj", 4}};
  options.alpha_pattern = {{"layers\\.7\\..*", 4.0}};
  EXPECT_THAT(fault(options), HasSubstr("lora_alpha_pattern"));
  options.alpha_pattern = {{"layers\\.2\\..*", 4.0}};
  EXPECT_EQ(fault(options), "accepted");
}

}  // namespace
}  // namespace phi3tune
