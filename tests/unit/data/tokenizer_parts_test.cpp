// The parts a tokenizer is made of, each by itself.
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "chat_support.h"
#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/decoder.h"
#include "data/tokenizer/split_pattern.h"
#include "data/tokenizer/split_pattern_check.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/word_cache.h"
#include "phi3tune/core/error.h"

namespace phi3tune::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(RandomTokenizers, GiveTheIdsAndTextOfTheFastOnes) {
  const auto tokenizers = test::read_jsonl(test::references("tokenizers/random.jsonl"));
  ASSERT_EQ(tokenizers.size(), 24U);
  size_t rows = 0;
  for (size_t i = 0; i < tokenizers.size(); ++i) {
    const test::TempFolder folder;
    folder.write("tokenizer.json", tokenizers[i].at("tokenizer").dump());
    const Tokenizer tokenizer = Tokenizer::open(folder.path());
    for (const io::Json& row : tokenizers[i].at("rows")) {
      ++rows;
      const auto text = row.at("text").get<std::string>();
      const auto ids = row.at("ids").get<std::vector<int32_t>>();
      EXPECT_EQ(tokenizer.encode(text), ids) << "tokenizer " << i << ": " << text;
      EXPECT_EQ(tokenizer.decode(ids), row.at("decoded").at(0).get<std::string>()) << "tokenizer " << i;
      EXPECT_EQ(tokenizer.decode(ids, true), row.at("decoded").at(1).get<std::string>()) << "tokenizer " << i;
    }
  }
  EXPECT_EQ(rows, 287U);
}

std::vector<std::string> words(std::string_view pattern, std::string_view text) {
  const SplitPattern split{std::string(pattern), "test"};
  SplitPattern::Scratch scratch;
  std::vector<Range> matches;
  split.find_all(text, scratch, matches);
  std::vector<std::string> out;
  for (const Range& match : matches) {
    out.emplace_back(text.substr(match.begin, match.end - match.begin));
  }
  return out;
}

TEST(SplitPattern, CutsAsGpt2) {
  EXPECT_THAT(words(SplitPattern::gpt2(), "It's 42,  émigré\n\n x"),
              ElementsAre("It", "'s", " 42", ",", " ", " émigré", "\n\n", " x"));
}

TEST(SplitPattern, FoldsTheLettersThatUnicodeFoldsToAscii) {
  EXPECT_THAT(words("(?i:'s)|\\p{L}+", "it'\u017Fx"), ElementsAre("it", "'\u017F", "x"));  // long s
  EXPECT_THAT(words("'s|\\p{L}+", "it'\u017Fx"), ElementsAre("it", "\u017Fx"));
}

TEST(SplitPattern, KnowsLettersThatAreYoungerThanTheRegexLibrary) {
  EXPECT_THAT(words("\\p{L}+", "a\U00031350b"), ElementsAre("a\U00031350b"));  // Unicode 15
  EXPECT_THAT(words("\\p{Mn}", "a\u0897"), ElementsAre("\u0897"));             // Unicode 16
}

TEST(SplitPattern, MongolianVowelSeparatorIsNoSpace) {
  EXPECT_THAT(words("\\s+", "a\u180E \u3000\u0085b"), ElementsAre(" \u3000\u0085"));
}

TEST(SplitPattern, LongRunsOfSpacesTakeTimeInProportion) {
  const std::string text(300000, ' ');
  EXPECT_THAT(words("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", text + "a"), ElementsAre(text.substr(1), " "));
}

TEST(SplitPatternCheck, TakesThePatternsOfThePhiFamily) {
  for (const char* name : {"phi4_like", "phi4_mini_like"}) {
    const std::string json = test::read_all(test::references(std::string("tokenizers/") + name + "/tokenizer.json"));
    const io::Json tokenizer = io::Json::parse(json);
    const auto pattern = tokenizer.at("pre_tokenizer").at("pretokenizers").at(0).at("pattern").at("Regex");
    EXPECT_THAT(unsupported_in_pattern(pattern.get<std::string>()), IsEmpty());
  }
  EXPECT_THAT(unsupported_in_pattern(SplitPattern::gpt2()), IsEmpty());
  EXPECT_THAT(unsupported_in_pattern("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}"), IsEmpty());
}

TEST(SplitPatternCheck, NamesWhatTheTwoEnginesReadDifferently) {
  for (const char* pattern :
       {"\\w+",     "\\h",          "\\p{Han}", "\\p{^L}", "\\pL", "[[:alpha:]]", "[a&&b]", "(a)",     "(?<!a)b",
        "(?i)a",    "(?i:\\p{Lu})", "a.b",      "^a",      "a$",   "a{1,3}+",     "a{,3}",  "(?:a+)+", "(?:a|b)*",
        "(?:a){2}", "a**",          "a\\",      "[a",      "(?:a", "a)",          "é",      "\n",      "(?i:ss)",
        "(?i:fi)",  "\\u00e9",      "\\b",      "\\1",     "[]a]", "*a",          "?"}) {
    EXPECT_NE(unsupported_in_pattern(pattern), "") << pattern;
  }
}

TEST(SplitPattern, RefusesWhatCannotCut) {
  const auto fault = [](const char* pattern) {
    return test::message_of<ModelError>([&] { SplitPattern(pattern, "FILE: FIELD"); });
  };
  EXPECT_THAT(fault(""), HasSubstr("FILE: FIELD"));
  EXPECT_THAT(fault("a*"), HasSubstr("nothing at all"));
  EXPECT_THAT(fault("[z-a]"), HasSubstr("FILE: FIELD"));
  EXPECT_THAT(fault("(a+)+b"), HasSubstr("at character 1"));
}

AddedToken token(int32_t id, std::string content, bool lstrip, bool rstrip, bool single_word = false) {
  return {id, std::move(content), lstrip, rstrip, single_word, false, false};
}

std::string stretches(const std::vector<AddedToken>& tokens, std::string_view text) {
  std::vector<Stretch> found;
  AddedTokenMatcher(tokens).split(text, found);
  std::string out;
  for (const Stretch& stretch : found) {
    out += fmt::format("[{}:{}]", stretch.id, text.substr(stretch.begin, stretch.end - stretch.begin));
  }
  return out;
}

TEST(AddedTokenMatcher, TakesTheLongestAtAPlace) {
  const std::vector<AddedToken> tokens{token(1, "<x>", false, false), token(2, "<x>y", false, false),
                                       token(3, "x>yz", false, false)};
  EXPECT_EQ(stretches(tokens, "a<x>yz<x><"), "[-1:a][2:<x>y][-1:z][1:<x>][-1:<]");
}

TEST(AddedTokenMatcher, StripsUnicodeWhitespaceButNotWhatIsTaken) {
  const std::vector<AddedToken> tokens{token(1, "<r>", false, true), token(2, "<l>", true, false)};
  EXPECT_EQ(stretches(tokens, "a <r>\u3000\n<l> b"), "[-1:a ][1:<r>\u3000\n][2:<l>][-1: b]");
  EXPECT_EQ(stretches(tokens, "a \u2028<l>\u200B"), "[-1:a][2: \u2028<l>][-1:\u200B]");
}

TEST(AddedTokenMatcher, WhitespaceTokenTakesBackWhatWasStripped) {
  // The rest of the stripped space is text again, as in the tokenizers library.
  const std::vector<AddedToken> tokens{token(1, "<r>", false, true), token(2, "  ", false, false)};
  EXPECT_EQ(stretches(tokens, "<r>   x"), "[1:<r>][2:  ][-1: x]");
}

TEST(AddedTokenMatcher, SingleWordsStandBetweenOtherCharacters) {
  const std::vector<AddedToken> tokens{token(1, "ab", false, false, true)};
  EXPECT_EQ(stretches(tokens, "ab"), "[1:ab]");
  EXPECT_EQ(stretches(tokens, "(ab)"), "[-1:(][1:ab][-1:)]");
  EXPECT_EQ(stretches(tokens, "éab abの ab_ ab\u0301"), "[-1:éab abの ab_ ab\u0301]");
}

TEST(AddedTokenMatcher, EmptyTextHasNoStretches) {
  EXPECT_EQ(stretches({token(1, "a", false, false)}, ""), "");
  EXPECT_EQ(stretches({}, "abc"), "[-1:abc]");
}

TEST(Bpe, JoinsTheLowestRankFirstAndTheLeftmostAmongEquals) {
  MergeTable merges(3);
  merges.set(1, 2, {1, 12});
  merges.set(2, 1, {0, 21});
  merges.set(1, 1, {2, 11});
  const Bpe bpe(std::move(merges));
  Bpe::Workspace workspace;
  const auto join = [&](const std::vector<int32_t>& ids) {
    std::vector<Symbol> symbols;
    for (const int32_t id : ids) {
      symbols.push_back({id, 1});
    }
    bpe.join(symbols, workspace);
    std::vector<std::pair<int32_t, uint32_t>> out;
    for (const Symbol& symbol : symbols) {
      out.emplace_back(symbol.id, symbol.length);
    }
    return out;
  };
  using Pairs = std::vector<std::pair<int32_t, uint32_t>>;
  EXPECT_EQ(join({1, 2, 1}), (Pairs{{1, 1}, {21, 2}}));
  EXPECT_EQ(join({1, 1, 1}), (Pairs{{11, 2}, {1, 1}}));
  EXPECT_EQ(join({1, 2, 2}), (Pairs{{12, 2}, {2, 1}}));
  EXPECT_EQ(join({1}), (Pairs{{1, 1}}));
  EXPECT_EQ(join({}), (Pairs{}));
}

TEST(WordCache, KeepsWordsApartAndForgetsWhenFull) {
  WordCache cache;
  const std::vector<Symbol> one{{7, 3}};
  const std::vector<Symbol> two{{8, 1}, {9, 2}};
  cache.insert("abc", false, one);
  cache.insert("abc", true, two);
  ASSERT_EQ(cache.find("abc", false).size, 1U);
  EXPECT_EQ(cache.find("abc", false).data->id, 7);
  EXPECT_EQ(cache.find("abc", true).size, 2U);
  EXPECT_EQ(cache.find("ab", false).data, nullptr);
  for (int i = 0; i < 200000; ++i) {
    const std::string word = std::to_string(i);
    cache.insert(word, false, one);
    ASSERT_NE(cache.find(word, false).data, nullptr);
  }
  const std::string longer(WordCache::kLongestWord + 1, 'a');
  cache.insert(longer, false, one);
  EXPECT_EQ(cache.find(longer, false).data, nullptr);
}

TEST(Unicode, WhitespaceAtTheEnds) {
  EXPECT_EQ(leading_whitespace(" \t\u00A0\u3000x "), 7U);
  EXPECT_EQ(trailing_whitespace(" x \u2003\u0085"), 6U);
  EXPECT_EQ(trailing_whitespace(""), 0U);
  EXPECT_EQ(leading_whitespace("\u200B"), 0U);
}

TEST(ByteLevelDecoder, ReplacesTheLongestStartOfASequence) {
  // E2 98 | 41: two bytes of a sequence of three are one mistake; F0 9F | FF is two.
  const std::vector<std::string_view> pieces{"â", "ĺ", "A", "ð", "Ł", "ÿ"};
  EXPECT_EQ(decode_byte_level(pieces), "\uFFFDA\uFFFD\uFFFD");
  const std::vector<std::string_view> cut{"ð", "Ł", "ĺ", "A"};  // F0 9F 98 | 41
  EXPECT_EQ(decode_byte_level(cut), "\uFFFDA");
  EXPECT_EQ(show_byte_level("âĺ"), "<0xE2><0x98>");
  EXPECT_EQ(show_byte_level("Ġhi"), " hi");
}

}  // namespace
}  // namespace phi3tune::data
