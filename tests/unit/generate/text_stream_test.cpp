// Pieces of a growing text, held to decode() of all of it.
#include "phi3tune/generate/text_stream.h"

#include <gtest/gtest.h>

#include "phi3tune/core/text.h"

namespace phi3tune::generate {
namespace {

const std::vector<std::string> kTexts{
    "Hello there",
    " leading and trailing ",
    "two\n\nlines\t\n",
    "smiles \U0001F600\U0001F600 and \U0001F469\u200D\U0001F4BB at work",
    "\u4F60\u597D\uFF0C\u4E16\u754C\u3002\u8FD9\u662F\u4E00\u4E2A\u6D4B\u8BD5",
    "e\u0301a\u0308 o\u0302\u0323 combining",
    "\uFFFD itself \uFFFD",
    "\u0939\u093F\u0928\u094D\u0926\u0940 \u05E2\u05D1\u05E8\u05D9\u05EA",
};

const std::string kTokenizers = PHI3TUNE_SOURCE_DIR "/tests/references/tokenizers/";

data::Tokenizer open(const std::string& name) { return data::Tokenizer::open(kTokenizers + name); }

// The pieces; each must be whole characters.
std::vector<std::string> stream(const data::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  TextStream stream(tokenizer);
  std::vector<std::string> pieces;
  for (const int32_t id : ids) {
    pieces.push_back(stream.add(id));
  }
  pieces.push_back(stream.finish());
  std::string all;
  for (const auto& piece : pieces) {
    EXPECT_EQ(find_invalid_utf8(piece), std::string_view::npos) << "half a character was shown";
    all += piece;
  }
  EXPECT_EQ(all, tokenizer.decode(ids, true));
  return pieces;
}

class EveryTokenizer : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(TextStream, EveryTokenizer,
                         testing::Values("spm_like", "phi4_like", "phi4_mini_like", "smollm_like"));

TEST_P(EveryTokenizer, PiecesAreWholeCharactersAndTogetherTheText) {
  const auto tokenizer = open(GetParam());
  for (const auto& text : kTexts) {
    SCOPED_TRACE(text);
    (void)stream(tokenizer, tokenizer.encode(text));
  }
}

TEST_P(EveryTokenizer, AnyTokensAtAllAreShownAsTheyDecode) {
  const auto tokenizer = open(GetParam());
  uint64_t state = 12345;
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> ids;
    for (int i = 0; i < 24; ++i) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      // Often one of the first ids, where single bytes are; sometimes one that nothing has.
      const auto range = (state >> 60) < 9 ? 300 : static_cast<uint64_t>(tokenizer.max_id()) + 20;
      ids.push_back(static_cast<int32_t>((state >> 20) % range));
    }
    (void)stream(tokenizer, ids);
  }
}

TEST(TextStream, ACharacterOfSeveralBytePiecesIsShownWhenItsRunEnds) {
  const auto tokenizer = open("spm_like");
  const auto byte = [&](const char* piece) { return *tokenizer.token_id(piece); };
  const auto a = tokenizer.encode("a").back();
  const auto pieces = stream(tokenizer, {a, byte("<0xE2>"), byte("<0x82>"), byte("<0xAC>"), a});
  EXPECT_EQ(pieces[1] + pieces[2] + pieces[3], "");
  EXPECT_EQ(pieces[4].substr(0, 3), "\u20AC");
  // One wrong byte spoils the run it stands in, as decode() has it.
  EXPECT_EQ(stream(tokenizer, {byte("<0xE2>"), byte("<0x82>"), byte("<0xAC>"), byte("<0xFF>"), a})[4].substr(0, 12),
            "\uFFFD\uFFFD\uFFFD\uFFFD");
}

TEST(TextStream, ByteLevelPiecesShowACharacterWithItsLastByte) {
  const auto tokenizer = open("smollm_like");
  const auto ids = tokenizer.encode("\u4F60\u597D");
  const auto pieces = stream(tokenizer, ids);
  ASSERT_GT(ids.size(), 2U) << "the characters are of several pieces";
  EXPECT_EQ(pieces.back(), "") << "the last byte completes the last character: nothing waits for the end";
  EXPECT_EQ(pieces.front(), "");
}

TEST(TextStream, SpecialTokensAreLeftOut) {
  const auto tokenizer = open("spm_like");
  std::vector<int32_t> ids = tokenizer.encode("one");
  const auto more = tokenizer.encode(" two");
  ids.push_back(*tokenizer.eos_id());
  ids.insert(ids.end(), more.begin(), more.end());
  std::string all;
  for (const auto& piece : stream(tokenizer, ids)) {
    all += piece;
  }
  EXPECT_EQ(all.find("<"), std::string::npos);
  EXPECT_NE(all.find("two"), std::string::npos);
}

}  // namespace
}  // namespace phi3tune::generate
