#include "phi3tune/phi3/init_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "phi3/random_weights.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/phi3/model_folder.h"
#include "support/temp_folder.h"

namespace phi3tune::phi3 {
namespace {

using test::message_of;
using test::read_all;
using test::TempFolder;
using ::testing::HasSubstr;

// Expected bits: tests/parity/init_weights.py.
TEST(RandomWeights, ValuesAreThoseOfTheDefinition) {
  EXPECT_EQ(RandomWeights(0, "lm_head.weight").value(0), 0x1.9d2186p-7F);
  EXPECT_EQ(RandomWeights(0, "lm_head.weight").value(1), -0x1.7238d6p-6F);
  EXPECT_EQ(RandomWeights(0, "model.norm").value(0), 0x1.9388fap-6F);
  EXPECT_EQ(RandomWeights(7, "lm_head.weight").value(0), -0x1.561ec8p-8F);
  EXPECT_EQ(RandomWeights(UINT64_MAX, "model.embed_tokens.weight").value(1'000'000'000), 0x1.bd6406p-6F);
  uint16_t half[2];
  RandomWeights(0, "lm_head.weight").fill(io::DType::kBF16, 0, 2, half);
  EXPECT_EQ(half[0], 0x3c4f);
  EXPECT_EQ(half[1], 0xbcb9);
  RandomWeights(0, "lm_head.weight").fill(io::DType::kF16, 0, 2, half);
  EXPECT_EQ(half[0], 0x2275);
  EXPECT_EQ(half[1], 0xa5c9);
}

TEST(RandomWeights, RoundingToF16IsNumpys) {
  const std::pair<float, uint16_t> cases[] = {
      {0x0.0p+0f, 0x0000},        {-0x0.0p+0f, 0x8000},       {0x1.0p+0f, 0x3c00},       {0x1.5798eep-27f, 0x0000},
      {0x1.01b2b2p-25f, 0x0001},  {-0x1.fff5cap-25f, 0x8001}, {0x1.f75104p-15f, 0x03ef}, {0x1.ffb480p-15f, 0x03ff},
      {0x1.555556p-2f, 0x3555},   {0x1.ffc000p+15f, 0x7bff},  {0x1.ffde00p+15f, 0x7bff}, {0x1.ffe000p+15f, 0x7c00},
      {-0x1.93e594p+99f, 0xfc00}, {0x1.0p-25f, 0x0000},       {0x1.00068ep-25f, 0x0001}, {0x1.8p-24f, 0x0002},
      {0x1.ffe000p-15f, 0x0400}};
  for (const auto& [value, bits] : cases) {
    EXPECT_EQ(to_f16(value), bits) << value;
  }
}

TEST(RandomWeights, AreNormalWithTheDeviationOfTransformers) {
  const RandomWeights weights(3, "w");
  constexpr int kCount = 1'000'000;
  double sum = 0;
  double squares = 0;
  double fourths = 0;
  double neighbours = 0;
  double last = 0;
  for (int i = 0; i < kCount; ++i) {
    const double z = weights.value(static_cast<uint64_t>(i)) / 0.02;
    sum += z;
    squares += z * z;
    fourths += z * z * z * z;
    neighbours += z * last;
    last = z;
  }
  // Five standard errors of each mean over 1e6 draws; a sum of 8 uniforms has fourth moment 3 - 0.15.
  EXPECT_NEAR(sum / kCount, 0, 0.005);
  EXPECT_NEAR(squares / kCount, 1, 0.007);
  EXPECT_NEAR(fourths / kCount, 2.85, 0.05);
  EXPECT_NEAR(neighbours / kCount, 0, 0.005);
}

TEST(RandomWeights, PartsJoinToTheWhole) {
  const RandomWeights weights(1, "w");
  std::vector<float> whole(1000);
  std::vector<float> parts(1000);
  weights.fill(io::DType::kF32, 0, 1000, whole.data());
  weights.fill(io::DType::kF32, 0, 333, parts.data());
  weights.fill(io::DType::kF32, 333, 667, parts.data() + 333);
  EXPECT_EQ(whole, parts);
}

InitModelOptions options_for(const std::string& folder, const std::string& shape = "tiny") {
  InitModelOptions options;
  options.folder = folder;
  options.shape = shape;
  return options;
}

class TinyShapes : public ::testing::TestWithParam<std::string_view> {};

TEST_P(TinyShapes, OpensAsASoundModelFolder) {
  const TempFolder temp;
  auto options = options_for(temp / "model", std::string(GetParam()));
  const auto report = init_model(options);
  const auto folder = ModelFolder::open(temp / "model");
  EXPECT_EQ(model_config_json(folder.config()), model_config_json(report.config));
  EXPECT_EQ(folder.total_bytes(), report.bytes);
  EXPECT_EQ(static_cast<uint64_t>(2 * report.parameters), report.bytes);
  EXPECT_EQ(read_stop_ids(temp / "model", folder.config()), (std::vector<int64_t>{32000, 32001, 32007}));
  const auto norm = folder.tensor("model.norm.weight");
  for (size_t i = 0; i < norm.data().size(); i += 2) {
    uint16_t one = 0;
    std::memcpy(&one, norm.data().data() + i, 2);
    ASSERT_EQ(one, 0x3f80);
  }
}
// The two published shapes are gigabytes; state_dict_test holds their counts.
INSTANTIATE_TEST_SUITE_P(Shapes, TinyShapes,
                         ::testing::Values("tiny", "tiny-gqa", "tiny-longrope", "tiny-tied-partial"),
                         [](const auto& info) {
                           std::string name(info.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });
TEST(InitModel, ShapesAreAllThere) { EXPECT_EQ(shape_names().size(), 6u); }

// Bytes are a promise: they may change only with a reason a user can be told.
TEST(InitModel, SameBytesOnEveryMachineAndNumberOfThreads) {
  const TempFolder temp;
  auto options = options_for(temp / "a");
  options.threads = 1;
  init_model(options);
  options.folder = temp / "b";
  options.threads = 7;
  init_model(options);
  const auto bytes = read_all(temp / "a/model.safetensors");
  EXPECT_EQ(bytes, read_all(temp / "b/model.safetensors"));
  options.folder = temp / "c";
  options.seed = 1;
  init_model(options);
  EXPECT_NE(bytes, read_all(temp / "c/model.safetensors"));
  EXPECT_EQ(hash_bytes(bytes).hex(), "279bddd7255784df6cad18e5396a8b27");
}

// A tensor of several chunks, split over threads, is the definition applied to each index.
TEST(InitModel, EveryElementIsTheDefinition) {
  const TempFolder temp;
  auto options = options_for(temp / "a", "tiny-gqa");
  options.dtype = "float32";
  options.seed = 5;
  options.threads = 3;
  init_model(options);
  const auto folder = ModelFolder::open(temp / "a");
  for (const char* name : {"lm_head.weight", "model.layers.1.mlp.down_proj.weight"}) {
    const auto data = folder.tensor(name).data();
    const RandomWeights weights(5, name);
    for (size_t i = 0; i < data.size() / 4; ++i) {
      float value = 0;
      std::memcpy(&value, data.data() + 4 * i, 4);
      ASSERT_EQ(value, weights.value(i)) << name << " " << i;
    }
  }
}

TEST(InitModel, ShardsAndIndexHoldTheSameTensors) {
  const TempFolder temp;
  init_model(options_for(temp / "one"));
  auto options = options_for(temp / "many");
  options.shard_limit = 5'000'000;
  const auto report = init_model(options);
  EXPECT_EQ(report.files[0], "model-00001-of-00002.safetensors");
  const auto one = ModelFolder::open(temp / "one");
  const auto many = ModelFolder::open(temp / "many");
  for (const auto& spec : state_dict(one.config())) {
    const auto a = one.tensor(spec.name).data();
    const auto b = many.tensor(spec.name).data();
    ASSERT_EQ(a.size(), b.size());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size()), 0) << spec.name;
  }
  const auto index = io::read_json_file<ModelError>(temp / "many/model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], report.bytes);
}

TEST(InitModel, LayersAndTokenizerShapeTheModel) {
  const TempFolder temp;
  temp.write("tok/tokenizer.json",
             R"({"model": {"vocab": {"a": 0, "b": 99}}, "added_tokens": [{"id": 100, "content": "<|endoftext|>"},)"
             R"({"id": 101, "content": "<|end|>"}, {"id": 1, "content": "<s>"}]})");
  temp.write("tok/tokenizer_config.json", "{}");
  temp.write("tok/notes.txt", "not copied");
  auto options = options_for(temp / "made/model");
  options.layers = 1;
  options.tokenizer = temp / "tok";
  const auto report = init_model(options);
  EXPECT_EQ(report.config.num_layers, 1);
  EXPECT_EQ(report.config.vocab_size, 128);
  EXPECT_EQ(report.config.eos_token_ids, std::vector<int64_t>{100});
  EXPECT_EQ(report.config.bos_token_id, 1);
  EXPECT_EQ(read_stop_ids(temp / "made/model", report.config), (std::vector<int64_t>{100, 101}));
  EXPECT_EQ(read_all(temp / "made/model/tokenizer.json"), read_all(temp / "tok/tokenizer.json"));
  EXPECT_FALSE(std::filesystem::exists(temp / "made/model/notes.txt"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(temp / "made"), {}), 1);
}

TEST(InitModel, BadOptionsAreRefusedBeforeAnythingIsWritten) {
  const TempFolder temp;
  auto options = options_for(temp / "m");
  options.shape = "huge";
  EXPECT_THAT(message_of<ConfigError>([&] { init_model(options); }), HasSubstr("wanted one of tiny, tiny-gqa"));
  options = options_for(temp / "m");
  options.dtype = "int8";
  EXPECT_THAT(message_of<ConfigError>([&] { init_model(options); }), HasSubstr("found \"int8\""));
  options = options_for(temp / "m");
  options.layers = 0;
  EXPECT_THAT(message_of<ConfigError>([&] { init_model(options); }), HasSubstr("layers: found 0"));
  options = options_for(temp / "m");
  options.tokenizer = temp.path();
  EXPECT_THAT(message_of<ModelError>([&] { init_model(options); }), HasSubstr("no tokenizer"));
  options = options_for(temp / "m", "phi-3-mini-4k");
  options.tokenizer = temp / "tok";
  temp.write("tok/tokenizer.json", R"({"model": {"vocab": {"a": 32064}}})");
  EXPECT_THAT(message_of<ModelError>([&] { init_model(options); }), HasSubstr("has 32065 tokens"));
  temp.write("full/file", "");
  EXPECT_THAT(message_of<ConfigError>([&] { init_model(options_for(temp / "full")); }),
              HasSubstr("not an empty folder"));
  EXPECT_FALSE(std::filesystem::exists(temp / "m"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(temp.path()), {}), 2);
}

TEST(InitModel, AnEmptyFolderIsFilled) {
  const TempFolder temp;
  std::filesystem::create_directory(temp / "m");
  init_model(options_for(temp / "m/"));
  EXPECT_NO_THROW(ModelFolder::open(temp / "m"));
}

}  // namespace
}  // namespace phi3tune::phi3
