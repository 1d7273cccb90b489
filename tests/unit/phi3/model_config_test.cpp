#include "phi3tune/phi3/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "phi3tune/core/error.h"
#include "support/temp_folder.h"

namespace phi3tune::phi3 {
namespace {

using io::Json;
using test::message_of;
using ::testing::HasSubstr;

// The published config.json of Phi-3-mini-4k-instruct.
Json mini_4k() {
  return Json::parse(R"({
    "architectures": ["Phi3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1,
    "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072, "initializer_range": 0.02,
    "intermediate_size": 8192, "max_position_embeddings": 4096, "model_type": "phi3", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
    "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
    "sliding_window": 2047, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true,
    "vocab_size": 32064})");
}

// The published values of Phi-4-mini-instruct, in transformers 5's spelling; the factors are made up.
Json phi_4_mini() {
  Json json = mini_4k();
  json.erase("rope_scaling");
  json.erase("rope_theta");
  json.erase("torch_dtype");
  json.update({{"num_attention_heads", 24},
               {"num_key_value_heads", 8},
               {"vocab_size", 200064},
               {"max_position_embeddings", 131072},
               {"sliding_window", 262144},
               {"tie_word_embeddings", true},
               {"bos_token_id", 199999},
               {"eos_token_id", {200020, 199999}},
               {"pad_token_id", nullptr},
               {"dtype", "bfloat16"}});
  json["rope_parameters"] = {{"rope_type", "longrope"},
                             {"rope_theta", 10000.0},
                             {"partial_rotary_factor", 0.75},
                             {"original_max_position_embeddings", 4096},
                             {"short_factor", std::vector<double>(48, 1.0)},
                             {"long_factor", std::vector<double>(48, 2.5)}};
  return json;
}

TEST(ModelConfig, ReadsThePublishedSpelling) {
  const auto config = parse_model_config(mini_4k(), "config.json");
  EXPECT_EQ(config.hidden_size, 3072);
  EXPECT_EQ(config.intermediate_size, 8192);
  EXPECT_EQ(config.num_layers, 32);
  EXPECT_EQ(config.num_heads, 32);
  EXPECT_EQ(config.num_kv_heads, 32);
  EXPECT_EQ(config.head_dim, 96);
  EXPECT_EQ(config.rotary_dim, 96);
  EXPECT_EQ(config.vocab_size, 32064);
  EXPECT_EQ(config.sliding_window, 2047);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.rope.type, RopeType::kDefault);
  EXPECT_EQ(config.rope.attention_factor, 1.0);
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_EQ(config.eos_token_ids, std::vector<int64_t>{32000});
  EXPECT_EQ(config.pad_token_id, 32000);
  EXPECT_EQ(config.torch_dtype, "bfloat16");
  EXPECT_EQ(config.qkv_size(), 9216);
  EXPECT_FALSE(config.quantization);
}

TEST(ModelConfig, ReadsTheNewSpelling) {
  const auto config = parse_model_config(phi_4_mini(), "config.json");
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.rotary_dim, 96);
  EXPECT_EQ(config.qkv_size(), 5120);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.rope.type, RopeType::kLongRope);
  EXPECT_EQ(config.rope.long_factor.size(), 48u);
  EXPECT_DOUBLE_EQ(config.rope.attention_factor, 1.1902380714238083);  // transformers, scale 32 and original 4096
  EXPECT_EQ(config.eos_token_ids, (std::vector<int64_t>{200020, 199999}));
  EXPECT_FALSE(config.pad_token_id);
  EXPECT_EQ(config.torch_dtype, "bfloat16");
}

TEST(ModelConfig, OldAndNewSpellingSayTheSame) {
  Json old = phi_4_mini();
  const Json rope = old["rope_parameters"];
  old.erase("rope_parameters");
  old["rope_theta"] = 10000.0;
  old["partial_rotary_factor"] = 0.75;
  for (const char* type : {"longrope", "su", "yarn"}) {
    old["rope_scaling"] = {
        {"type", type}, {"short_factor", rope["short_factor"]}, {"long_factor", rope["long_factor"]}};
    EXPECT_EQ(model_config_json(parse_model_config(old, "c")), model_config_json(parse_model_config(phi_4_mini(), "c")))
        << type;
  }
}

TEST(ModelConfig, WritesThePublishedFile) {
  // The key order of the published files is the alphabet; Json compares members in order.
  EXPECT_EQ(model_config_json(parse_model_config(mini_4k(), "c")), mini_4k());
}

TEST(ModelConfig, WhatIsWrittenReadsBackTheSame) {
  Json json = phi_4_mini();
  json["head_dim"] = 98;  // int(98 * 0.75) = 73 would be odd
  json["rope_parameters"]["partial_rotary_factor"] = 94.0 / 98.0;
  json["rope_parameters"]["short_factor"] = std::vector<double>(47, 1.0);
  json["rope_parameters"]["long_factor"] = std::vector<double>(47, 1.0);
  json["rope_parameters"]["attention_factor"] = 1.5;
  const auto config = parse_model_config(json, "c");
  ASSERT_EQ(config.rotary_dim % 2, 0);
  const auto again = parse_model_config(model_config_json(config), "c");
  EXPECT_EQ(again.rotary_dim, config.rotary_dim);
  EXPECT_EQ(again.head_dim, 98);
  EXPECT_EQ(again.rope.attention_factor, 1.5);
  EXPECT_EQ(model_config_json(again), model_config_json(config));
}

// int(head_dim * factor) of every even width comes back, whatever the division rounds to.
TEST(ModelConfig, EveryRotaryWidthSurvivesWriting) {
  for (int64_t head_dim = 2; head_dim <= 256; head_dim += 2) {
    for (int64_t rotary = 2; rotary <= head_dim; rotary += 2) {
      auto config = parse_model_config(mini_4k(), "c");
      config.head_dim = head_dim;
      config.rotary_dim = rotary;
      ASSERT_EQ(parse_model_config(model_config_json(config), "c").rotary_dim, rotary) << head_dim;
    }
  }
}

TEST(ModelConfig, DefaultsAreThoseOfTransformers) {
  Json json = mini_4k();
  for (const char* key : {"num_key_value_heads", "original_max_position_embeddings", "rope_theta", "rope_scaling",
                          "rms_norm_eps", "tie_word_embeddings", "sliding_window", "model_type", "torch_dtype"}) {
    json.erase(key);
  }
  const auto config = parse_model_config(json, "c");
  EXPECT_EQ(config.num_kv_heads, 32);
  EXPECT_EQ(config.original_max_position_embeddings, 4096);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_FALSE(config.sliding_window);
  EXPECT_EQ(config.torch_dtype, "");
}

TEST(ModelConfig, ScaleOfOneOrLessHasNoAttentionFactor) {
  Json json = phi_4_mini();
  for (const int positions : {4096, 3000}) {
    json["max_position_embeddings"] = positions;
    EXPECT_EQ(parse_model_config(json, "c").rope.attention_factor, 1.0);
  }
  json["rope_parameters"]["factor"] = 32.0;  // transformers 5: an explicit factor wins over the ratio
  EXPECT_DOUBLE_EQ(parse_model_config(json, "c").rope.attention_factor, 1.1902380714238083);
}

TEST(ModelConfig, ReadsTheQuantisationOfBitsandbytes) {
  Json json = mini_4k();
  json["quantization_config"] = {{"quant_method", "bitsandbytes"},
                                 {"load_in_4bit", true},
                                 {"load_in_8bit", false},
                                 {"bnb_4bit_quant_type", "nf4"},
                                 {"bnb_4bit_quant_storage", "uint8"},
                                 {"bnb_4bit_use_double_quant", true},
                                 {"bnb_4bit_compute_dtype", "bfloat16"}};
  const auto config = parse_model_config(json, "c");
  ASSERT_TRUE(config.quantization);
  EXPECT_EQ(config.quantization->quant_type, "nf4");
  EXPECT_TRUE(config.quantization->double_quant);
  EXPECT_EQ(config.quantization->compute_dtype, "bfloat16");
}

struct BadConfig {
  const char* name;
  std::function<void(Json&)> spoil;
  const char* message;  // after the place
};

const BadConfig kBadConfigs[] = {
    {"Phi3Small", [](Json& j) { j["model_type"] = "phi3small"; }, "model_type: found \"phi3small\" (Phi-3-small"},
    {"PhiMoe", [](Json& j) { j["model_type"] = "phimoe"; }, "mixture of experts"},
    {"Phi3Vision", [](Json& j) { j["architectures"] = {"Phi3VForCausalLM"}; }, "reads images"},
    {"Phi4Multimodal", [](Json& j) { j["model_type"] = "phi4mm"; }, "images and sound"},
    {"Llama", [](Json& j) { j["model_type"] = "llama"; }, "found \"llama\" (another architecture), wanted \"phi3\""},
    {"Classifier", [](Json& j) { j["architectures"] = {"Phi3ForSequenceClassification"}; }, "Phi3ForCausalLM"},
    {"NoArchitecture",
     [](Json& j) {
       j.erase("model_type");
       j.erase("architectures");
     },
     "neither model_type"},
    {"NoHiddenSize", [](Json& j) { j.erase("hidden_size"); }, "hidden_size is missing"},
    {"NoPositions", [](Json& j) { j.erase("max_position_embeddings"); }, "max_position_embeddings is missing"},
    {"SizeAsText", [](Json& j) { j["hidden_size"] = "3072"; }, "hidden_size: found \"3072\", wanted a whole number"},
    {"SizeZero", [](Json& j) { j["num_hidden_layers"] = 0; }, "num_hidden_layers: found 0"},
    {"SizeNegative", [](Json& j) { j["vocab_size"] = -1; }, "vocab_size: found -1"},
    {"SizeFractional", [](Json& j) { j["intermediate_size"] = 8192.5; }, "intermediate_size: found 8192.5"},
    {"SizeHuge", [](Json& j) { j["vocab_size"] = 9223372036854775807; }, "vocab_size: found 9223372036854775807"},
    {"HeadsDoNotDivide", [](Json& j) { j["num_attention_heads"] = j["num_key_value_heads"] = 31; },
     "31 does not divide hidden_size 3072"},
    {"KvHeadsDoNotDivide", [](Json& j) { j["num_key_value_heads"] = 5; }, "5 does not divide num_attention_heads 32"},
    {"OddRotaryWidth", [](Json& j) { j["partial_rotary_factor"] = 0.52; }, "wanted an even number"},
    {"PartialAboveOne", [](Json& j) { j["partial_rotary_factor"] = 1.5; }, "partial_rotary_factor: found 1.5"},
    {"Gelu", [](Json& j) { j["hidden_act"] = "gelu"; }, "hidden_act: found \"gelu\", wanted \"silu\""},
    {"AttentionBias", [](Json& j) { j["attention_bias"] = true; }, "attention_bias: found true"},
    {"ResidualDropout", [](Json& j) { j["resid_pdrop"] = 0.1; }, "resid_pdrop: found 0.1, wanted 0"},
    {"AttentionDropout", [](Json& j) { j["attention_dropout"] = 0.1; }, "attention_dropout: found 0.1, wanted 0"},
    {"WindowZero", [](Json& j) { j["sliding_window"] = 0; }, "sliding_window: found 0"},
    {"TiedAsText", [](Json& j) { j["tie_word_embeddings"] = "no"; }, "wanted true or false"},
    {"Epsilon", [](Json& j) { j["rms_norm_eps"] = 0.0; }, "rms_norm_eps: found 0"},
    {"Theta", [](Json& j) { j["rope_theta"] = -1.0; }, "rope_theta: found -1"},
    {"RopeType",
     [](Json& j) {
       j["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
     },
     "rope_scaling.type: found \"linear\""},
    {"RopeNotAnObject", [](Json& j) { j["rope_scaling"] = "su"; }, "rope_scaling: found \"su\", wanted an object"},
    {"ShortFactorMissing",
     [](Json& j) {
       j["rope_scaling"] = {{"type", "su"}, {"long_factor", std::vector<int>(48, 1)}};
     },
     "rope_scaling.short_factor: missing, wanted 48 numbers"},
    {"LongFactorLength",
     [](Json& j) {
       j["rope_scaling"] = {{"type", "su"}, {"short_factor", std::vector<int>(48, 1)}, {"long_factor", {1, 2, 3}}};
     },
     "rope_scaling.long_factor: found 3 numbers, wanted 48"},
    {"FactorZero",
     [](Json& j) {
       j["rope_scaling"] = {
           {"type", "su"}, {"short_factor", std::vector<int>(48, 1)}, {"long_factor", std::vector<int>(48, 0)}};
     },
     "wanted an array of positive numbers"},
    {"MoeScales",
     [](Json& j) {
       j["rope_scaling"] = {{"type", "longrope"},
                            {"short_factor", std::vector<int>(48, 1)},
                            {"long_factor", std::vector<int>(48, 1)},
                            {"short_mscale", 1.2}};
     },
     "short_mscale"},
    {"TwoThetas",
     [](Json& j) {
       j["rope_parameters"] = {{"rope_theta", 5.0}};
     },
     "which holds?"},
    {"EosOutside", [](Json& j) { j["eos_token_id"] = 32064; }, "eos_token_id: found 32064"},
    {"EosListOutside",
     [](Json& j) {
       j["eos_token_id"] = {1, -2};
     },
     "eos_token_id: holds -2"},
    {"EightBit",
     [](Json& j) {
       j["quantization_config"] = {{"quant_method", "bitsandbytes"}, {"load_in_8bit", true}};
     },
     "not in 4 bits"},
    {"Fp4",
     [](Json& j) {
       j["quantization_config"] = {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}};
     },
     "bnb_4bit_quant_type: found \"fp4\", wanted \"nf4\""},
    {"Gptq",
     [](Json& j) {
       j["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
     },
     "quant_method: found \"gptq\""},
};

class RefusedConfig : public ::testing::TestWithParam<BadConfig> {};
TEST_P(RefusedConfig, IsOneReportWithPlaceFoundAndWanted) {
  Json json = mini_4k();
  GetParam().spoil(json);
  const auto message = message_of<ModelError>([&] { parse_model_config(json, "dir/config.json"); });
  EXPECT_TRUE(message.starts_with("dir/config.json: ")) << message;
  EXPECT_THAT(message, HasSubstr(GetParam().message));
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 0) << message;
}
INSTANTIATE_TEST_SUITE_P(Configs, RefusedConfig, ::testing::ValuesIn(kBadConfigs),
                         [](const auto& info) { return std::string(info.param.name); });
TEST(ModelConfig, BadConfigsAreAllThere) { EXPECT_EQ(std::size(kBadConfigs), 38u); }

TEST(ModelConfig, AllFaultsComeTogether) {
  Json json = mini_4k();
  json.erase("hidden_size");
  json["hidden_act"] = "relu";
  json["sliding_window"] = "all";
  const auto message = message_of<ModelError>([&] { parse_model_config(json, "c"); });
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 2) << message;
}

TEST(ModelConfig, NotAnObjectIsSaid) {
  EXPECT_THAT(message_of<ModelError>([] { parse_model_config(Json::array(), "c"); }),
              HasSubstr("wanted a JSON object"));
}

TEST(Linears, ShapesOfThePublishedModels) {
  const auto mini = parse_model_config(mini_4k(), "c");
  EXPECT_EQ(linear_out(mini, LinearKind::kQkv), 9216);
  EXPECT_EQ(linear_in(mini, LinearKind::kQkv), 3072);
  EXPECT_EQ(linear_out(mini, LinearKind::kO), 3072);
  EXPECT_EQ(linear_in(mini, LinearKind::kO), 3072);
  EXPECT_EQ(linear_out(mini, LinearKind::kGateUp), 16384);
  EXPECT_EQ(linear_in(mini, LinearKind::kGateUp), 3072);
  EXPECT_EQ(linear_out(mini, LinearKind::kDown), 3072);
  EXPECT_EQ(linear_in(mini, LinearKind::kDown), 8192);
  EXPECT_EQ(linear_path(3, LinearKind::kQkv), "model.layers.3.self_attn.qkv_proj");
  EXPECT_EQ(linear_path(0, LinearKind::kDown), "model.layers.0.mlp.down_proj");
}

}  // namespace
}  // namespace phi3tune::phi3
