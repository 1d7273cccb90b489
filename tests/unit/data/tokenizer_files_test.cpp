// Files of a tokenizer that are wrong, or say what is not supported: each is a ModelError that names file and field.
#include <gmock/gmock.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "chat_support.h"
#include "phi3tune/core/error.h"

namespace phi3tune::data {
namespace {

using io::Json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Json parsed(const std::string& text) {
  Json value;
  io::JsonFault fault;
  EXPECT_TRUE(io::parse_json(text, value, fault)) << fault.what;
  return value;
}

Json sentencepiece_like() {
  return parsed(
      R"({"version": "1.0", "added_tokens": [{"id": 7, "content": "<|end|>", "rstrip": true, "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null,
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": false,
      "vocab": {"<unk>": 0, "▁": 1, "a": 2, "b": 3, "ab": 4, "▁a": 5, "▁ab": 6},
      "merges": ["a b", "▁ ab", ["▁", "a"]]}})");
}

Json byte_level() {
  Json tokenizer = sentencepiece_like();
  tokenizer["normalizer"] = nullptr;
  tokenizer["pre_tokenizer"] =
      parsed(R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true, "trim_offsets": true})");
  tokenizer["decoder"] = parsed(R"({"type": "ByteLevel"})");
  return tokenizer;
}

struct Folder {
  test::TempFolder folder;
  void write(const Json& tokenizer) const { folder.write("tokenizer.json", tokenizer.dump()); }
  std::string fault() const {
    return test::message_of<ModelError>([&] { (void)Tokenizer::open(folder.path()); });
  }
};

std::string fault_of(const Json& tokenizer) {
  const Folder folder;
  folder.write(tokenizer);
  return folder.fault();
}

TEST(TokenizerFiles, TheSoundOnesOpen) {
  const Folder folder;
  folder.write(sentencepiece_like());
  EXPECT_THAT(Tokenizer::open(folder.folder.path()).encode("ab a<|end|>  b"), ElementsAre(6, 5, 7, 1, 3));
  folder.write(byte_level());
  EXPECT_THAT(Tokenizer::open(folder.folder.path()).encode("aab<|end|>b"), ElementsAre(2, 4, 7, 3));
}

TEST(TokenizerFiles, IgnoreMergesTakesAWholeWordThatNoMergeMakes) {
  const Folder folder;
  Json tokenizer = sentencepiece_like();
  tokenizer["model"]["merges"] = Json::array();
  folder.write(tokenizer);
  EXPECT_THAT(Tokenizer::open(folder.folder.path()).encode("ab"), ElementsAre(1, 2, 3));
  tokenizer["model"]["ignore_merges"] = true;
  folder.write(tokenizer);
  EXPECT_THAT(Tokenizer::open(folder.folder.path()).encode("ab"), ElementsAre(6));
  EXPECT_THAT(Tokenizer::open(folder.folder.path()).encode("ab a"), ElementsAre(1, 2, 3, 1, 2));
  tokenizer = byte_level();
  tokenizer["model"]["merges"] = Json::array();
  folder.write(tokenizer);
  EXPECT_THAT(Tokenizer::open(folder.folder.path()).encode("ab"), ElementsAre(2, 3));
  tokenizer["model"]["ignore_merges"] = true;
  folder.write(tokenizer);
  EXPECT_THAT(Tokenizer::open(folder.folder.path()).encode("ab"), ElementsAre(4));
}

TEST(TokenizerFiles, RemovedSplitsDropTheMatchesOrTheRest) {
  const Folder folder;
  Json tokenizer = byte_level();
  tokenizer["pre_tokenizer"] = parsed(R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern":
    {"Regex": "b"}, "behavior": "Removed", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false}]})");
  folder.write(tokenizer);
  EXPECT_THAT(Tokenizer::open(folder.folder.path()).encode("aba"), ElementsAre(2, 2));
  tokenizer["pre_tokenizer"]["pretokenizers"][0]["invert"] = true;
  folder.write(tokenizer);
  EXPECT_THAT(Tokenizer::open(folder.folder.path()).encode("aba"), ElementsAre(3));
}

TEST(TokenizerFiles, BytesWithoutAPieceCountForTheTokenBefore) {
  const Folder folder;
  Json tokenizer = byte_level();
  tokenizer["model"].erase("unk_token");
  folder.write(tokenizer);
  const Tokenizer opened = Tokenizer::open(folder.folder.path());
  const auto spans = [&](const char* text) {
    std::vector<std::vector<size_t>> out;
    for (const TokenSpan& span : opened.encode_with_spans(text)) {
      out.push_back({static_cast<size_t>(span.id), span.begin, span.end});
    }
    return out;
  };
  using Spans = std::vector<std::vector<size_t>>;
  EXPECT_EQ(spans("abxxb"), (Spans{{4, 0, 4}, {3, 4, 5}}));  // inside a word
  EXPECT_EQ(spans("xab"), (Spans{{4, 0, 3}}));               // at its start
  EXPECT_EQ(spans("?ab?"), (Spans{{4, 0, 4}}));              // words of their own
  EXPECT_EQ(spans("??"), (Spans{}));
}

TEST(TokenizerFiles, FolderWithoutVocabularyNamesWhatIsWanted) {
  const Folder folder;
  EXPECT_THAT(folder.fault(), AllOf(HasSubstr("tokenizer.json"), HasSubstr("tokenizer.model")));
}

struct Case {
  const char* name;
  std::function<void(Json&)> change;
  std::vector<std::string> says;
};

void expect_faults(Json (*base)(), const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    Json tokenizer = base();
    one.change(tokenizer);
    const std::string fault = fault_of(tokenizer);
    EXPECT_THAT(fault, HasSubstr("tokenizer.json: ")) << one.name;
    for (const std::string& part : one.says) {
      EXPECT_THAT(fault, HasSubstr(part)) << one.name;
    }
  }
}

TEST(TokenizerFiles, UnsupportedFeaturesAreNamed) {
  const auto step = [](const char* text) { return parsed(text); };
  expect_faults(
      sentencepiece_like,
      {{"model type", [](Json& t) { t["model"]["type"] = "Unigram"; }, {"model.type", "Unigram"}},
       {"dropout", [](Json& t) { t["model"]["dropout"] = 0.1; }, {"model.dropout"}},
       {"prefix", [](Json& t) { t["model"]["continuing_subword_prefix"] = "##"; }, {"continuing_subword_prefix"}},
       {"suffix", [](Json& t) { t["model"]["end_of_word_suffix"] = "</w>"; }, {"end_of_word_suffix"}},
       {"normalizer", [&](Json& t) { t["normalizer"] = step(R"({"type": "NFKC"})"); }, {"normalizer", "NFKC"}},
       {"order of normalizers",
        [](Json& t) { std::swap(t["normalizer"]["normalizers"][0], t["normalizer"]["normalizers"][1]); },
        {"normalizers[1]", "Prepend"}},
       {"replacement", [](Json& t) { t["normalizer"]["normalizers"][1]["content"] = "_"; }, {"normalizers[1]"}},
       {"pre-tokenizer",
        [&](Json& t) {
          t["pre_tokenizer"] = step(R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"})");
        },
        {"pre_tokenizer", "Metaspace"}},
       {"split without bytes",
        [&](Json& t) { t["pre_tokenizer"] = step(R"({"type": "Digits", "individual_digits": true})"); },
        {"pre_tokenizer", "ByteLevel"}},
       {"bytes with normalizer",
        [&](Json& t) { t["pre_tokenizer"] = step(R"({"type": "ByteLevel"})"); },
        {"pre_tokenizer", "normalizer"}},
       {"no decoder", [](Json& t) { t["decoder"] = nullptr; }, {"decoder", "none"}},
       {"decoder", [&](Json& t) { t["decoder"] = step(R"({"type": "WordPiece"})"); }, {"decoder", "WordPiece"}},
       {"strip", [](Json& t) { t["decoder"]["decoders"][3]["start"] = 2; }, {"decoders[3]"}},
       {"normalized token", [](Json& t) { t["added_tokens"][0]["normalized"] = true; }, {"<|end|>", "normalized"}}});
  expect_faults(byte_level,
                {{"step after bytes",
                  [&](Json& t) {
                    t["pre_tokenizer"] =
                        step(R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]})");
                  },
                  {"pretokenizers[1]", "Digits"}},
                 {"behaviour",
                  [&](Json& t) {
                    t["pre_tokenizer"] = step(R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern":
            {"Regex": "a"}, "behavior": "MergedWithNext", "invert": false}, {"type": "ByteLevel"}]})");
                  },
                  {"behavior", "MergedWithNext"}},
                 {"pattern",
                  [&](Json& t) {
                    t["pre_tokenizer"] = step(R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern":
            {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": false}, {"type": "ByteLevel"}]})");
                  },
                  {"pattern.Regex", "at character 1"}}});
}

TEST(TokenizerFiles, BrokenVocabulariesAreNamed) {
  expect_faults(
      sentencepiece_like,
      {{"no model", [](Json& t) { t.erase("model"); }, {"model: not there"}},
       {"model is text", [](Json& t) { t["model"] = "BPE"; }, {"model", "an object"}},
       {"no vocab", [](Json& t) { t["model"].erase("vocab"); }, {"model.vocab: not there"}},
       {"empty vocab", [](Json& t) { t["model"]["vocab"] = Json::object(); }, {"model.vocab: no pieces"}},
       {"no merges", [](Json& t) { t["model"].erase("merges"); }, {"model.merges: not there"}},
       {"two pieces of one id", [](Json& t) { t["model"]["vocab"]["b"] = 2; }, {"model.vocab[\"b\"]", "\"a\""}},
       {"negative id", [](Json& t) { t["model"]["vocab"]["b"] = -1; }, {"model.vocab[\"b\"]", "-1"}},
       {"huge id", [](Json& t) { t["model"]["vocab"]["b"] = int64_t{1} << 40; }, {"model.vocab[\"b\"]"}},
       {"larger than any integer", [](Json& t) { t["model"]["vocab"]["b"] = ~uint64_t{0}; }, {"model.vocab[\"b\"]"}},
       {"fraction", [](Json& t) { t["model"]["vocab"]["b"] = 3.5; }, {"model.vocab[\"b\"]", "3.5"}},
       {"text as id", [](Json& t) { t["model"]["vocab"]["b"] = "3"; }, {"model.vocab[\"b\"]"}},
       {"merge of an absent piece", [](Json& t) { t["model"]["merges"][1] = "x b"; }, {"model.merges[1]", "\"x\""}},
       {"merge makes no piece", [](Json& t) { t["model"]["merges"][1] = "b a"; }, {"model.merges[1]", "\"ba\""}},
       {"merge of three", [](Json& t) { t["model"]["merges"][1] = "a b a"; }, {"model.merges[1]"}},
       {"merge of one", [](Json& t) { t["model"]["merges"][1] = "ab"; }, {"model.merges[1]"}},
       {"merge array of three",
        [](Json& t) {
          t["model"]["merges"][2] = {"a", "b", "a"};
        },
        {"model.merges[2]"}},
       {"merge of numbers",
        [](Json& t) {
          t["model"]["merges"][2] = {1, 2};
        },
        {"model.merges[2][0]"}},
       {"merge is a number", [](Json& t) { t["model"]["merges"][2] = 5; }, {"model.merges[2]"}},
       {"unknown unk", [](Json& t) { t["model"]["unk_token"] = "[UNK]"; }, {"model.unk_token", "[UNK]"}},
       {"flag is a number", [](Json& t) { t["model"]["fuse_unk"] = 1; }, {"model.fuse_unk"}}});
}

TEST(TokenizerFiles, BrokenAddedTokensAreNamed) {
  expect_faults(sentencepiece_like,
                {{"no content", [](Json& t) { t["added_tokens"][0].erase("content"); }, {"added_tokens[0].content"}},
                 {"empty content", [](Json& t) { t["added_tokens"][0]["content"] = ""; }, {"added_tokens[0]"}},
                 {"no id", [](Json& t) { t["added_tokens"][0].erase("id"); }, {"added_tokens[0].id"}},
                 {"id of a piece", [](Json& t) { t["added_tokens"][0]["id"] = 2; }, {"<|end|>", "id 2"}},
                 {"id with a gap", [](Json& t) { t["added_tokens"][0]["id"] = 9; }, {"<|end|>", "id 9"}},
                 {"piece under another id", [](Json& t) { t["added_tokens"][0]["content"] = "ab"; }, {"\"ab\""}},
                 {"flag is text", [](Json& t) { t["added_tokens"][0]["lstrip"] = "no"; }, {"added_tokens[0].lstrip"}},
                 {"not an object", [](Json& t) { t["added_tokens"][0] = 7; }, {"added_tokens[0]"}},
                 {"not a list", [](Json& t) { t["added_tokens"] = Json::object(); }, {"added_tokens"}}});
}

TEST(TokenizerFiles, TextThatIsNoJsonIsAFaultWithItsPlace) {
  const Folder folder;
  folder.folder.write("tokenizer.json", "{\"model\": \n oops}");
  EXPECT_THAT(folder.fault(), HasSubstr("tokenizer.json:2:2"));
  folder.folder.write("tokenizer.json", "{\"model\": \"\xFF\"}");
  EXPECT_THAT(folder.fault(), HasSubstr("tokenizer.json:1:"));
  folder.folder.write("tokenizer.json", "[1]");
  EXPECT_THAT(folder.fault(), HasSubstr("an object"));
  folder.folder.write("tokenizer.json", R"({"model": {"vocab": {"a": 0, "a": 1}}})");
  EXPECT_THAT(folder.fault(), HasSubstr("tokenizer.json:1:"));
}

TEST(TokenizerConfigFile, FlagsWinOverTokenizerJson) {
  const Folder folder;
  folder.write(sentencepiece_like());
  folder.folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {"7": {"content": "<|end|>", "lstrip": true,
    "rstrip": false, "special": true, "normalized": false, "single_word": false}}, "eos_token": "<|end|>",
    "pad_token": {"content": "<unk>"}})");
  const Tokenizer tokenizer = Tokenizer::open(folder.folder.path());
  EXPECT_THAT(tokenizer.encode("a <|end|> b"), ElementsAre(5, 7, 1, 1, 3));
  EXPECT_EQ(tokenizer.eos_id(), 7);
  EXPECT_EQ(tokenizer.pad_id(), 0);
  EXPECT_EQ(tokenizer.bos_id(), std::nullopt);
  EXPECT_THAT(tokenizer.encode("<unk>"), ElementsAre(0));  // a named token is found in text
}

TEST(TokenizerConfigFile, OnceSpecialStaysSkipped) {
  const Folder folder;
  folder.write(sentencepiece_like());
  folder.folder.write(
      "tokenizer_config.json",
      R"({"added_tokens_decoder": {"7": {"content": "<|end|>", "special": false, "normalized": false}}})");
  const std::vector<int32_t> ids{5, 7};
  EXPECT_EQ(Tokenizer::open(folder.folder.path()).decode(ids, true), "a");
}

TEST(TokenizerConfigFile, AddedTokensMayStandThereAlone) {
  const Folder folder;
  folder.write(sentencepiece_like());
  folder.folder.write("tokenizer_config.json",
                      R"({"added_tokens_decoder": {"8": {"content": "<|user|>", "special": true}}})");
  const Tokenizer tokenizer = Tokenizer::open(folder.folder.path());
  EXPECT_EQ(tokenizer.token_id("<|user|>"), 8);
  EXPECT_EQ(tokenizer.max_id(), 8);
}

TEST(TokenizerConfigFile, FaultsAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"([])", "an object"},
      {R"({"added_tokens_decoder": []})", "added_tokens_decoder"},
      {R"({"added_tokens_decoder": {"x": {"content": "<|end|>"}}})", "added_tokens_decoder.x"},
      {R"({"added_tokens_decoder": {"7": 7}})", "added_tokens_decoder.7"},
      {R"({"added_tokens_decoder": {"7": {}}})", "added_tokens_decoder.7.content"},
      {R"({"added_tokens_decoder": {"8": {"content": "<|end|>", "normalized": false}}})", "id 8"},
      {R"({"added_tokens_decoder": {"7": {"content": "<|end|>"}}})", "normalized"},  // true unless special
      {R"({"eos_token": "</s>"})", "eos_token"},
      {R"({"eos_token": 3})", "eos_token"},
      {R"({"add_bos_token": "yes"})", "add_bos_token"},
      {R"({"chat_template": 3})", "chat_template"}};
  for (const auto& [config, says] : cases) {
    const Folder folder;
    folder.write(sentencepiece_like());
    folder.folder.write("tokenizer_config.json", config);
    EXPECT_THAT(folder.fault(), AllOf(HasSubstr("tokenizer_config.json"), HasSubstr(says))) << config;
  }
}

TEST(TokenizerConfigFile, BosFollowsTheSettingThenThePostProcessor) {
  Json tokenizer = sentencepiece_like();
  tokenizer["added_tokens"].push_back(parsed(R"({"id": 8, "content": "<s>", "special": true})"));
  tokenizer["post_processor"] = parsed(R"({"type": "TemplateProcessing", "single":
    [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]})");
  const Folder folder;
  folder.write(tokenizer);
  const auto adds = [&](const char* config) {
    folder.folder.write("tokenizer_config.json", config);
    return Tokenizer::open(folder.folder.path()).add_bos_token();
  };
  EXPECT_TRUE(adds(R"({"bos_token": "<s>"})"));
  EXPECT_FALSE(adds(R"({"bos_token": "<s>", "add_bos_token": false})"));
  EXPECT_FALSE(adds(R"({})"));
  tokenizer["post_processor"] = nullptr;
  folder.write(tokenizer);
  EXPECT_FALSE(adds(R"({"bos_token": "<s>"})"));
  EXPECT_TRUE(adds(R"({"bos_token": "<s>", "add_bos_token": true})"));
}

TEST(TokenizerConfigFile, TemplateComesFromItsOwnFileFirst) {
  const Folder folder;
  folder.write(sentencepiece_like());
  folder.folder.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(Tokenizer::open(folder.folder.path()).chat_template(), "d");
  folder.folder.write("chat_template.jinja", "file");
  EXPECT_EQ(Tokenizer::open(folder.folder.path()).chat_template(), "file");
}

TEST(TokenizerFiles, FingerprintNamesTheContentsAndNotThePlace) {
  const Folder one;
  const Folder two;
  one.write(sentencepiece_like());
  two.write(sentencepiece_like());
  const std::string print = Tokenizer::open(one.folder.path()).fingerprint();
  EXPECT_EQ(Tokenizer::open(two.folder.path()).fingerprint(), print);
  EXPECT_THAT(Tokenizer::open(one.folder.path()).files(), ElementsAre(one.folder.path() + "/tokenizer.json"));
  two.folder.write("tokenizer_config.json", "{}");
  EXPECT_NE(Tokenizer::open(two.folder.path()).fingerprint(), print);
}

class SentencePieceFile : public testing::Test {
 protected:
  const std::string model_ = test::read_all(test::references("tokenizers/spm_like/tokenizer.model"));
  std::string fault(const std::string& bytes) {
    folder_.write("tokenizer.model", bytes);
    return test::message_of<ModelError>([&] { (void)Tokenizer::open(folder_.path()); });
  }
  test::TempFolder folder_;
};

TEST_F(SentencePieceFile, OpensAlone) {
  folder_.write("tokenizer.model", model_);
  EXPECT_EQ(Tokenizer::open(folder_.path()).max_id(), 1599);
}

TEST_F(SentencePieceFile, EveryTruncationIsAFaultOrAnotherModel) {
  // Cuts between pieces leave fewer pieces and no trainer settings, which is refused as well.
  for (size_t length = 0; length < model_.size(); length += 61) {
    EXPECT_THAT(fault(model_.substr(0, length)), HasSubstr("tokenizer.model")) << length;
  }
}

TEST_F(SentencePieceFile, EveryFlippedByteIsReadOrRefused) {
  for (size_t at = 0; at < model_.size(); at += 53) {
    std::string bytes = model_;
    bytes[at] = static_cast<char>(bytes[at] ^ 0xFF);
    folder_.write("tokenizer.model", bytes);
    try {
      (void)Tokenizer::open(folder_.path()).encode("any text <s>");
    } catch (const ModelError&) {
    }
  }
}

TEST_F(SentencePieceFile, SettingsThatEncodeOtherwiseAreNamed) {
  // Fields that come later override earlier ones; messages given twice are read in turn.
  const auto with = [&](char field, std::string settings) {
    return model_ + field + static_cast<char>(settings.size()) + settings;
  };
  constexpr char kTrainer = 0x12;
  constexpr char kNormalizer = 0x1A;
  EXPECT_THAT(fault(with(kTrainer, {0x18, 1})), HasSubstr("model_type"));
  EXPECT_THAT(fault(with(kTrainer, {static_cast<char>(0x98), 2, 0})), HasSubstr("byte_fallback"));
  EXPECT_THAT(fault(with(kTrainer, {static_cast<char>(0xC0), 1, 1})), HasSubstr("treat_whitespace_as_suffix"));
  EXPECT_THAT(fault(with(kNormalizer, {0x12, 1, 'x'})), HasSubstr("character map"));
  EXPECT_THAT(fault(with(kNormalizer, {0x18, 0})), HasSubstr("add_dummy_prefix"));
  EXPECT_THAT(fault(with(kNormalizer, {0x20, 1})), HasSubstr("remove_extra_whitespaces"));
  EXPECT_THAT(fault(with(kNormalizer, {0x28, 0})), HasSubstr("escape_whitespaces"));
}

TEST_F(SentencePieceFile, PiecesThatCannotBeAreNamed) {
  const auto with_piece = [&](std::string piece) { return model_ + '\x0A' + static_cast<char>(piece.size()) + piece; };
  EXPECT_THAT(fault(with_piece("\x0A\x05<unk>")), HasSubstr("piece 1600 repeats"));
  EXPECT_THAT(fault(with_piece("\x0A\x02\xFF\xFE")), HasSubstr("piece 1600 is damaged"));
  EXPECT_THAT(fault(with_piece("")), HasSubstr("piece 1600 is damaged"));
  EXPECT_THAT(fault(with_piece(std::string("\x0A\x03new\x18\x09", 7))), HasSubstr("piece 1600 is damaged"));
  EXPECT_THAT(fault(with_piece(std::string("\x0A\x03new\x18\x02", 7))), HasSubstr("second unknown"));
}

TEST_F(SentencePieceFile, MustAgreeWithTokenizerJson) {
  folder_.write("tokenizer.json", test::read_all(test::references("tokenizers/spm_like/tokenizer.json")));
  folder_.write("tokenizer.model", model_);
  EXPECT_EQ(Tokenizer::open(folder_.path()).max_id(), 1610);
  std::string other = model_;
  const size_t place = other.find("\xE2\x96\x81the");
  ASSERT_NE(place, std::string::npos);
  other.replace(place, 6, "\xE2\x96\x81thZ");
  EXPECT_THAT(fault(other), AllOf(HasSubstr("not of the same tokenizer"), HasSubstr("thZ")));
}

TEST_F(SentencePieceFile, AddedTokensWithoutFlagsAreRefused) {
  folder_.write("added_tokens.json", R"({"<|end|>": 1600})");
  EXPECT_THAT(fault(model_), HasSubstr("added_tokens_decoder"));
}

TEST_F(SentencePieceFile, LinksThatLeadOutOfTheFolderAreNotFollowed) {
  const test::TempFolder outside;
  for (const char* name : {"tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"}) {
    outside.write(name, "{}");
    std::filesystem::create_symlink(outside / name, folder_ / name);
    EXPECT_THAT(fault(model_), AllOf(HasSubstr(name), HasSubstr("leads out")));
    std::filesystem::remove(folder_ / name);
  }
}

}  // namespace
}  // namespace phi3tune::data
