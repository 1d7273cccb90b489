// Golden sequences of Phi-3-mini-4k-instruct's own tokenizer. The vocabulary is the publisher's and not in this tree:
// the tests look for it where PHI3TUNE_PHI3_TOKENIZER says or beside the source tree, and are skipped without it.
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "phi3tune/data/tokenizer.h"
#include "support/temp_folder.h"

namespace phi3tune::data {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string phi3_folder() {
  if (const char* named = std::getenv("PHI3TUNE_PHI3_TOKENIZER")) {
    return named;
  }
  return std::string(PHI3TUNE_SOURCE_DIR) + "/../shared/phi3-mini-4k-instruct";
}

class Phi3Tokenizer : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(phi3_folder() + "/tokenizer.json")) {
      GTEST_SKIP() << "Phi-3's tokenizer is not there; set PHI3TUNE_PHI3_TOKENIZER to a folder that has it";
    }
  }
  static const Tokenizer& current() {
    static const Tokenizer tokenizer = Tokenizer::open(phi3_folder());
    return tokenizer;
  }
  // The first release had the same vocabulary, and no added token took whitespace.
  static Tokenizer first_release() {
    const test::TempFolder folder;
    for (const std::string name : {"tokenizer.json", "tokenizer_config.json"}) {
      std::string text = test::read_all(phi3_folder() + "/" + name);
      const std::string flag = "\"rstrip\": true";
      for (size_t at = 0; (at = text.find(flag, at)) != std::string::npos;) {
        text.replace(at, flag.size(), "\"rstrip\": false");
      }
      folder.write(name, text);
    }
    return Tokenizer::open(folder.path());
  }
};

TEST_F(Phi3Tokenizer, EncodesChatOfTheCurrentFiles) {
  EXPECT_THAT(current().encode("<|user|>\nHello<|end|>\n<|assistant|>\n"), ElementsAre(32010, 15043, 32007, 32001));
  EXPECT_THAT(current().encode("<|system|>\nYou are a helpful assistant.<|end|>\n<|user|>\nWhat is 2+2?<|end|>\n"
                               "<|assistant|>\nThe answer is 4.<|end|>\n<|endoftext|>"),
              ElementsAre(32006, 887, 526, 263, 8444, 20255, 29889, 32007, 32010, 1724, 338, 29871, 29906, 29974, 29906,
                          29973, 32007, 32001, 450, 1234, 338, 29871, 29946, 29889, 32007, 32000));
}

TEST_F(Phi3Tokenizer, EncodesChatOfTheFirstRelease) {
  const Tokenizer first = first_release();
  EXPECT_THAT(first.encode("<|user|>\nHello<|end|>\n<|assistant|>\n"),
              ElementsAre(32010, 29871, 13, 10994, 32007, 29871, 13, 32001, 29871, 13));
  EXPECT_THAT(first.encode("<|user|>\nこんにちは。データ分析するにはなにをすればいい？<|end|><|assistant|>"),
              ElementsAre(32010, 29871, 13, 30589, 30389, 30353, 30644, 30449, 30267, 30597, 30185, 30369, 30748, 233,
                          161, 147, 30427, 30332, 30353, 30449, 30371, 30353, 30396, 30427, 30553, 31254, 30298, 30298,
                          30882, 32007, 32001));
}

TEST_F(Phi3Tokenizer, EncodesBytesSpacesAndEmptyText) {
  EXPECT_THAT(current().encode("分析"), ElementsAre(29871, 30748, 233, 161, 147));
  EXPECT_THAT(current().encode(" こんにちは"), ElementsAre(259, 30589, 30389, 30353, 30644, 30449));
  EXPECT_THAT(current().encode(""), IsEmpty());
  EXPECT_THAT(current().encode(" "), ElementsAre(259));
  EXPECT_THAT(current().encode("\n"), ElementsAre(29871, 13));
  EXPECT_THAT(current().encode("  two"), ElementsAre(259, 1023));
  EXPECT_THAT(current().encode("héllo 🙂"), ElementsAre(298, 3610, 417, 29871, 243, 162, 156, 133));
}

TEST_F(Phi3Tokenizer, EncodesAddedTokensTypedInText) {
  EXPECT_THAT(current().encode("<s>Hello</s> world"), ElementsAre(1, 15043, 2, 3186));
  EXPECT_THAT(current().encode("x<|end|>  \n y"), ElementsAre(921, 32007, 343));
}

TEST_F(Phi3Tokenizer, AddedTokensSpanTheWhitespaceTheyTake) {
  const auto spans = current().encode_with_spans("x<|end|>  \n y");
  ASSERT_EQ(spans.size(), 3U);
  EXPECT_EQ(spans[1].begin, 1U);
  EXPECT_EQ(spans[1].end, 12U);
}

TEST_F(Phi3Tokenizer, SpaceMarkBeforeABytePieceSpansNothing) {
  const auto spans = current().encode_with_spans("\nhi");  // "▁", <0x0A>, "hi"
  ASSERT_EQ(spans.size(), 3U);
  EXPECT_EQ(spans[0].begin, spans[0].end);
  EXPECT_EQ(spans[1].end, 1U);
}

TEST_F(Phi3Tokenizer, DecodesWithoutTheSpaceInFrontOfTheWholeText) {
  EXPECT_EQ(current().decode(std::vector<int32_t>{15043, 3186}), "Hello world");
  EXPECT_EQ(current().decode(std::vector<int32_t>{32010, 15043}), "<|user|> Hello");
  EXPECT_EQ(current().decode(std::vector<int32_t>{32010, 15043}, true), "Hello");
}

TEST_F(Phi3Tokenizer, OneBrokenByteSpoilsItsWholeRun) {
  EXPECT_EQ(current().decode(std::vector<int32_t>{243, 162, 156, 133}), "🙂");
  EXPECT_EQ(current().decode(std::vector<int32_t>{243, 162, 65}), "\uFFFD\uFFFD\uFFFD");  // 65 is ">"
}

TEST_F(Phi3Tokenizer, KnowsItsNamedTokens) {
  EXPECT_EQ(current().bos_id(), 1);
  EXPECT_EQ(current().eos_id(), 32000);
  EXPECT_EQ(current().pad_id(), 32000);
  EXPECT_EQ(current().max_id(), 32010);
  EXPECT_FALSE(current().add_bos_token());
  EXPECT_EQ(current().token_id("<|end|>"), 32007);
  EXPECT_EQ(current().token_id("▁Hello"), 15043);
  EXPECT_EQ(current().token_id("no such piece"), std::nullopt);
  EXPECT_EQ(current().token_text(15043), " Hello");
  EXPECT_EQ(current().token_text(13), "<0x0A>");
  ASSERT_TRUE(current().chat_template().has_value());
  EXPECT_TRUE(current().chat_template()->starts_with("{% for message in messages %}"));
}

TEST_F(Phi3Tokenizer, LongTextWithoutSpacesTakesTimeInProportion) {
  // A quadratic method would need minutes here.
  EXPECT_EQ(current().encode(std::string(1000000, 'a')).size(), 250002U);
}

}  // namespace
}  // namespace phi3tune::data
