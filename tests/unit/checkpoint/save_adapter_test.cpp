#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <limits>
#include <set>

#include "phi3tune/core/error.h"
#include "phi3tune/phi3/adapter_folder.h"
#include "support/references.h"
#include "support/temp_folder.h"
#include "support/tensors.h"
#include "tiny.h"

namespace phi3tune {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;
using test::tiny_adapters;
using testing::ElementsAre;
using testing::HasSubstr;

std::set<std::string> names_in(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

checkpoint::AdapterFiles tiny_files(const TempFolder& folder) {
  checkpoint::AdapterFiles files;
  files.tokenizer_files = {folder.write("base/tokenizer.json", "{\"a\": 1}"),
                           folder.write("base/chat_template.jinja", "the base's own")};
  files.chat_template = "{{ messages }}";
  files.card = test::tiny_card();
  return files;
}

TEST(SaveAdapter, KeepsBytesThatPeftWroteAndHasItsNamesAndShapes) {
  const TempFolder folder;
  auto adapters = tiny_adapters();
  checkpoint::load_adapter(test::kPeftAdapter, adapters);
  checkpoint::save_adapter(folder / "out", adapters, tiny_files(folder));
  // PEFT's own file, byte for byte: order, padding and metadata too.
  EXPECT_TRUE(test::read_all(folder / "out/adapter_model.safetensors") ==
              test::read_all(std::string(test::kPeftAdapter) + "/adapter_model.safetensors"));
}

TEST(SaveAdapter, RoundTripGivesTheSameBits) {
  const TempFolder folder;
  auto adapters = tiny_adapters();
  adapters.parameters().normal_();
  checkpoint::save_adapter(folder / "out", adapters, tiny_files(folder));
  auto loaded = tiny_adapters(at::kFloat, 4);
  EXPECT_FALSE(test::same_bits(loaded.parameters(), adapters.parameters()));
  checkpoint::load_adapter(folder / "out", loaded);
  EXPECT_TRUE(test::same_bits(loaded.parameters(), adapters.parameters()));
}

model::LoraAdapters whole_adapters() {
  auto config = phi3::read_adapter_config(test::kPeftAdapter);
  config.modules_to_save = {"embed_tokens", "lm_head"};
  return {phi3::read_model_config(test::kTinyModel), config, at::kFloat, 3, false};
}

TEST(SaveAdapter, ModulesTrainedWholeAreSavedByPeftsNamesAndComeBack) {
  const TempFolder folder;
  auto adapters = whole_adapters();
  adapters.parameters().normal_();
  checkpoint::save_adapter(folder / "out", adapters, tiny_files(folder));
  const auto opened = phi3::AdapterFolder::open(folder / "out");
  EXPECT_THAT(opened.config().modules_to_save, ElementsAre("embed_tokens", "lm_head"));
  for (const char* name : {"base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"}) {
    const auto* entry = opened.file().find(name);
    ASSERT_NE(entry, nullptr) << name;
    EXPECT_EQ(entry->shape, (std::vector<int64_t>{96, 64}));
  }
  auto loaded = whole_adapters();
  checkpoint::load_adapter(folder / "out", loaded);
  EXPECT_TRUE(test::same_bits(loaded.parameters(), adapters.parameters()));

  // Without them in its configuration an adapter does not take the folder.
  auto plain = tiny_adapters();
  EXPECT_THROW(checkpoint::load_adapter(folder / "out", plain), CheckpointError);
  // And a folder that lacks one says so.
  checkpoint::save_adapter(folder / "plain", plain, tiny_files(folder));
  EXPECT_THROW(checkpoint::load_adapter(folder / "plain", loaded), CheckpointError);
  std::filesystem::copy_file(folder / "out/adapter_config.json", folder / "plain/adapter_config.json",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THROW((void)phi3::AdapterFolder::open(folder / "plain"), CheckpointError);
}

TEST(SaveAdapter, NarrowDtypesRoundOnce) {
  for (const auto& [dtype, scalar] :
       {std::pair{io::DType::kBF16, at::kBFloat16}, std::pair{io::DType::kF16, at::kHalf}}) {
    const TempFolder folder;
    auto adapters = tiny_adapters();
    adapters.parameters().normal_();
    auto files = tiny_files(folder);
    files.dtype = dtype;
    checkpoint::save_adapter(folder / "out", adapters, files);
    auto loaded = tiny_adapters(at::kFloat, 4);
    checkpoint::load_adapter(folder / "out", loaded);
    EXPECT_TRUE(test::same_bits(loaded.parameters(), adapters.parameters().to(scalar).to(at::kFloat)));
  }
}

TEST(SaveAdapter, WritesTheFilesItNamesAndTheChosenTemplate) {
  const TempFolder folder;
  const auto files = tiny_files(folder);
  EXPECT_THAT(checkpoint::adapter_file_names(files),
              ElementsAre("README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja",
                          "tokenizer.json"));
  checkpoint::save_adapter(folder / "run/adapter", tiny_adapters(), files);
  const auto names = checkpoint::adapter_file_names(files);
  EXPECT_EQ(names_in(folder / "run/adapter"), std::set<std::string>(names.begin(), names.end()));
  EXPECT_EQ(names_in(folder / "run"), std::set<std::string>{"adapter"});
  EXPECT_EQ(test::read_all(folder / "run/adapter/chat_template.jinja"), "{{ messages }}");
  EXPECT_EQ(test::read_all(folder / "run/adapter/tokenizer.json"), "{\"a\": 1}");
  EXPECT_EQ(test::read_all(folder / "run/adapter/README.md"), checkpoint::model_card_text(files.card));
}

TEST(SaveAdapter, EqualAdaptersGiveEqualBytes) {
  const TempFolder folder;
  for (const char* name : {"one", "other"}) {
    checkpoint::save_adapter(folder / name, tiny_adapters(), tiny_files(folder));
  }
  for (const auto& name : checkpoint::adapter_file_names(tiny_files(folder))) {
    EXPECT_TRUE(test::read_all(folder / ("one/" + name)) == test::read_all(folder / ("other/" + name))) << name;
  }
}

TEST(SaveAdapter, NeverWritesOverAFolderThatExists) {
  const TempFolder folder;
  folder.write("out/mine.txt", "mine");
  EXPECT_THAT(test::message_of<ResourceError>(
                  [&] { checkpoint::save_adapter(folder / "out", tiny_adapters(), tiny_files(folder)); }),
              HasSubstr("exists already"));
  EXPECT_EQ(names_in(folder / "out"), std::set<std::string>{"mine.txt"});
  EXPECT_EQ(test::read_all(folder / "out/mine.txt"), "mine");
}

TEST(SaveAdapter, ValuesThatAreNotFiniteAreNotSaved) {
  const TempFolder folder;
  const auto files = tiny_files(folder);
  auto adapters = tiny_adapters();
  adapters.parameters()[5] = std::numeric_limits<double>::infinity();
  EXPECT_THAT(test::message_of<NumericsError>([&] { checkpoint::save_adapter(folder / "out", adapters, files); }),
              HasSubstr("lora_A.weight"));
  adapters.parameters()[5] = 1e6;  // fits in float32, not in float16
  auto half = files;
  half.dtype = io::DType::kF16;
  EXPECT_THROW(checkpoint::save_adapter(folder / "out", adapters, half), NumericsError);
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"base"});
}

TEST(SaveAdapter, LeavesNothingBehindWhenItFails) {
  const TempFolder folder;
  auto files = tiny_files(folder);
  files.tokenizer_files.push_back(folder.write("base/adapter_config.json", "{}"));  // the same name twice
  EXPECT_THROW(checkpoint::save_adapter(folder / "out", tiny_adapters(), files), ResourceError);
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"base"});
}

TEST(ModelCard, HoldsWhatAPersonNeeds) {
  const std::string text = checkpoint::model_card_text(test::tiny_card());
  EXPECT_THAT(text, testing::StartsWith("---\nbase_model: \"models/tiny \\\"quoted\\\"\"\nlibrary_name: peft\n"));
  EXPECT_THAT(text, HasSubstr("# Tickets\n"));
  EXPECT_THAT(text, HasSubstr("| validation | 1234 | 3.9800 | 2.2305 | 9.305 |"));  // exp(2.2305) = 9.3045
  EXPECT_THAT(text, HasSubstr("| general | 5 |  | 1.0000 | 2.718 |"));
  EXPECT_THAT(text, HasSubstr("| a\\|b | x y |"));
  EXPECT_THAT(text, HasSubstr("PeftModel.from_pretrained"));
  EXPECT_THAT(text, HasSubstr("`phi_3`"));
}

}  // namespace
}  // namespace phi3tune
