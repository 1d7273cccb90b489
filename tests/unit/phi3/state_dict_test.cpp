#include "phi3tune/phi3/state_dict.h"

#include <gtest/gtest.h>

#include <numeric>

#include "phi3tune/phi3/init_model.h"

namespace phi3tune::phi3 {
namespace {

struct Published {
  const char* shape;
  int64_t parameters;
  size_t tensors;
  size_t shards;  // at 5 GB in bf16
};

class PublishedModels : public ::testing::TestWithParam<Published> {};

// Parameter counts and shard counts of the published checkpoints.
TEST_P(PublishedModels, CountsMatch) {
  const auto tensors = state_dict(named_shape(GetParam().shape));
  EXPECT_EQ(tensors.size(), GetParam().tensors);
  int64_t parameters = 0;
  std::vector<uint64_t> bytes;
  for (const auto& tensor : tensors) {
    parameters += tensor.numel();
    bytes.push_back(2 * static_cast<uint64_t>(tensor.numel()));
  }
  EXPECT_EQ(parameters, GetParam().parameters);
  EXPECT_EQ(plan_shards(bytes, kShardLimit).size(), GetParam().shards);
}
INSTANTIATE_TEST_SUITE_P(Models, PublishedModels,
                         ::testing::Values(Published{"phi-3-mini-4k", 3'821'079'552, 195, 2},
                                           Published{"phi-3-medium-4k", 13'960'238'080, 243, 6}),
                         [](const auto& info) { return std::to_string(info.param.parameters); });

// The published Phi-3-mini: its first shard ends inside layer 21.
TEST(Shards, MiniIsCutWhereThePublishedFilesAre) {
  const auto tensors = state_dict(named_shape("phi-3-mini-4k"));
  std::vector<uint64_t> bytes;
  for (const auto& tensor : tensors) {
    bytes.push_back(2 * static_cast<uint64_t>(tensor.numel()));
  }
  const auto shards = plan_shards(bytes, kShardLimit);
  ASSERT_EQ(shards.size(), 2u);
  EXPECT_EQ(tensors[shards[0].back()].name, "model.layers.21.self_attn.o_proj.weight");
  EXPECT_EQ(tensors[shards[1].front()].name, "model.layers.21.self_attn.qkv_proj.weight");
  EXPECT_EQ(std::accumulate(bytes.begin(), bytes.begin() + static_cast<long>(shards[0].size()), uint64_t{0}),
            4'972'474'368u);
}

// As split_state_dict_into_shards_factory of huggingface_hub cuts them.
TEST(Shards, OneThatFillsTheLimitStaysAndALargerOneStandsAlone) {
  EXPECT_EQ(plan_shards({4, 6, 1, 20, 3}, 10), (std::vector<std::vector<size_t>>{{0, 1}, {3}, {2, 4}}));
  EXPECT_TRUE(plan_shards({}, 10).empty());
}

TEST(Shards, NamesAreThoseOfTheHub) {
  EXPECT_EQ(shard_name(0, 1), "model.safetensors");
  EXPECT_EQ(shard_name(1, 6), "model-00002-of-00006.safetensors");
}

TEST(StateDict, OrderIsThatOfTheModule) {
  auto config = named_shape("tiny-tied-partial");
  config.num_layers = 1;
  std::vector<std::string> names;
  for (const auto& tensor : state_dict(config)) {
    names.push_back(tensor.name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{
                       "model.embed_tokens.weight", "model.layers.0.self_attn.o_proj.weight",
                       "model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight",
                       "model.layers.0.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight",
                       "model.layers.0.post_attention_layernorm.weight", "model.norm.weight"}));
  config.tie_word_embeddings = false;
  EXPECT_EQ(state_dict(config).back().name, "lm_head.weight");
}

}  // namespace
}  // namespace phi3tune::phi3
