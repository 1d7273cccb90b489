#include "phi3tune/data/dataset.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <numeric>
#include <set>

#include "chat_support.h"
#include "phi3tune/core/error.h"

namespace phi3tune::data {
namespace {

using config::DataOptions;
using config::ExcessLength;
using config::RecordFormat;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

class ReadDataset : public testing::Test {
 protected:
  static void SetUpTestSuite() { tokenizer_ = std::make_unique<Tokenizer>(test::open_tokenizer("spm_like")); }
  static void TearDownTestSuite() { tokenizer_.reset(); }

  // Options with one dataset of this text.
  DataOptions options(const std::string& text, const std::string& name = "data.jsonl") {
    DataOptions options;
    options.datasets.resize(1);
    options.datasets[0].path = folder_.write(name, text);
    return options;
  }
  Dataset read(const DataOptions& options, const std::string& chat = "phi_3") {
    return read_dataset(options, *tokenizer_, test::template_for(chat, *tokenizer_), tokenizer_->max_id() + 1);
  }
  // The only example of a text; the trained tokens are in brackets.
  std::string marked(const Example& example) const {
    std::string out;
    for (size_t t = 0; t < example.input_ids.size(); ++t) {
      const auto text = tokenizer_->token_text(example.input_ids[t]);
      out += example.labels[t] == kIgnoreLabel ? text : "[" + text + "]";
    }
    return out;
  }
  std::string only(const DataOptions& options) {
    const Dataset dataset = read(options);
    return dataset.train.size() == 1 ? marked(dataset.train[0]) : fmt::format("{} examples", dataset.train.size());
  }

  test::TempFolder folder_;
  static std::unique_ptr<Tokenizer> tokenizer_;
};
std::unique_ptr<Tokenizer> ReadDataset::tokenizer_;

std::string chat_line(const std::string& user, const std::string& assistant) {
  return "{\"messages\": [{\"role\": \"user\", \"content\": \"" + user +
         "\"}, {\"role\": \"assistant\", \"content\": \"" + assistant + "\"}]}\n";
}

std::string text_lines(int count, int from = 0) {
  std::string lines;
  for (int i = from; i < from + count; ++i) {
    lines += fmt::format("{{\"text\": \"row {} of many\"}}\n", i);
  }
  return lines;
}

const char* const kAnswer = "<|user|> a<|end|><|assistant|>[ b][<|end|>][<|endoftext|>]";

TEST_F(ReadDataset, DetectsEveryFormat) {
  EXPECT_EQ(only(options(chat_line("a", "b"))), kAnswer);
  EXPECT_EQ(
      only(options(
          "{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", \"value\": \"b\"}]}")),
      kAnswer);
  EXPECT_EQ(only(options("{\"instruction\": \"a\", \"input\": \"\", \"output\": \"b\"}")), kAnswer);
  EXPECT_EQ(only(options(
                "{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}], \"completion\": [{\"role\": \"assistant\", "
                "\"content\": \"b\"}]}")),
            kAnswer);
  EXPECT_EQ(only(options("{\"prompt\": \"a\", \"completion\": \" b\"}")), " a[ b][<|endoftext|>]");
  EXPECT_EQ(only(options("{\"text\": \"a b a\"}")), " a[ b][ a][<|endoftext|>]");
}

TEST_F(ReadDataset, ReadsSystemHistoryAndInputs) {
  EXPECT_EQ(
      only(options(
          "{\"system\": \"c\", \"conversations\": [{\"from\": \"user\", \"value\": \"a\"}, {\"from\": \"assistant\", "
          "\"value\": \"b\"}]}")),
      "<|system|> c<|end|>" + std::string(kAnswer));
  EXPECT_EQ(
      only(options("{\"system\": \"c\", \"history\": [[\"a\", \"b\"]], \"instruction\": \"a\", \"input\": \"d\", "
                   "\"output\": \"b\"}")),
      "<|system|> c<|end|><|user|> a<|end|><|assistant|>[ b][<|end|>]<|user|> a<0x0A>d<|end|><|assistant|>[ b][<|end|>]"
      "[<|endoftext|>]");
}

TEST_F(ReadDataset, NamedFieldsAndFormats) {
  auto named = options("{\"chat\": [{\"who\": \"user\", \"says\": \"a\"}, {\"who\": \"assistant\", \"says\": \"b\"}]}");
  named.datasets[0].field_messages = "chat";
  named.datasets[0].field_role = "who";
  named.datasets[0].field_content = "says";
  EXPECT_EQ(only(named), kAnswer);
  auto conversations = options(
      "{\"conversations\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", "
      "\"content\": \"b\"}]}");
  conversations.datasets[0].field_messages = "conversations";
  EXPECT_EQ(only(conversations), kAnswer);
  auto ambiguous = options("{\"instruction\": \"a\", \"output\": \"b\", \"text\": \"c\"}");
  ambiguous.datasets[0].format = RecordFormat::kAlpaca;
  EXPECT_EQ(only(ambiguous), kAnswer);
  EXPECT_THAT(read(ambiguous).train_report.ignored_keys, ElementsAre(Pair("text", 1)));
}

TEST_F(ReadDataset, RowsKnowTheirPlace) {
  const Dataset dataset = read(options(chat_line("a", "b") + "\n" + chat_line("c", "d")));
  ASSERT_EQ(dataset.train.size(), 2U);
  EXPECT_EQ(dataset.place(dataset.train[1].source), folder_ / "data.jsonl" + ":3");
  EXPECT_EQ(dataset.train_report.blank_lines, 1);
}

TEST_F(ReadDataset, ReportsWhatItRead) {
  auto two = options(chat_line("a", "b") + chat_line("<|end|>", "c d") + chat_line("a", "b"));
  two.datasets.push_back(two.datasets[0]);
  two.datasets[1].path = folder_.write("more.jsonl", text_lines(3) + "\n" + text_lines(1, 3));
  two.datasets[1].samples = 2;
  const Dataset dataset = read(two);
  const DatasetReport& report = dataset.train_report;
  EXPECT_EQ(report.records, 5);
  EXPECT_EQ(report.examples, 5);
  EXPECT_EQ(report.duplicates, 1);
  EXPECT_EQ(report.special_tokens_in_text, 1);
  EXPECT_THAT(report.formats, ElementsAre(Pair("messages", 3), Pair("text", 2)));
  int64_t tokens = 0;
  int64_t trained = 0;
  for (const Example& example : dataset.train) {
    tokens += static_cast<int64_t>(example.input_ids.size());
    trained += example.trained_tokens();
    EXPECT_LE(static_cast<int64_t>(example.input_ids.size()), report.longest);
  }
  EXPECT_EQ(report.tokens, tokens);
  EXPECT_EQ(report.trained_tokens, trained);
}

TEST_F(ReadDataset, WeightsStandOnlyWhereTheyMatter) {
  const Dataset dataset =
      read(options(chat_line("a", "b") +
                   "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "
                   "\"b\", \"weight\": 0.5}, {\"role\": \"assistant\", \"content\": \"c\", \"train\": false}]}"));
  EXPECT_TRUE(dataset.train[0].weights.empty());
  EXPECT_THAT(dataset.train[1].weights, ElementsAre(0, 0, 0, 0, 0.5F, 0.5F, 0, 0, 0, 0));
}

// 40 user words, 5 answer tokens and the template's: 3 headers and ends, 2 at the end.
std::string long_chat() {
  std::string user;
  for (int i = 0; i < 40; ++i) {
    user += i == 0 ? "a" : i == 39 ? " c" : " a";
  }
  return chat_line(user, "b b b b b");
}

TEST_F(ReadDataset, OverlongRowsAreRefusedUnlessToldOtherwise) {
  auto long_row = options(long_chat() + chat_line("a", "b"));
  long_row.sequence_len = 30;
  EXPECT_THAT(
      test::message_of<DataError>([&] { read(long_row); }),
      HasSubstr("data.jsonl:1: 50 tokens, and sequence_len is 30; raise it, or set excess_length_strategy to drop"));
  long_row.excess_length = ExcessLength::kDrop;
  const Dataset dropped = read(long_row);
  EXPECT_EQ(dropped.train.size(), 1U);
  EXPECT_EQ(dropped.train_report.dropped_too_long, 1);
  EXPECT_EQ(dropped.train_report.records, 2);
  EXPECT_EQ(dropped.train_report.fault_count, 0);
}

TEST_F(ReadDataset, TruncatePromptTakesFromThePromptsStartAndKeepsTheTemplate) {
  auto long_row = options(long_chat());
  long_row.sequence_len = 14;
  long_row.excess_length = ExcessLength::kTruncatePrompt;
  EXPECT_EQ(only(long_row), "<|user|> a a a c<|end|><|assistant|>[ b][ b][ b][ b][ b][<|end|>][<|endoftext|>]");
  EXPECT_EQ(read(long_row).train_report.truncated, 1);
  long_row.sequence_len = 10;
  EXPECT_EQ(only(long_row), "<|user|><|end|><|assistant|>[ b][ b][ b][ b][ b][<|end|>][<|endoftext|>]");
  long_row.sequence_len = 9;
  EXPECT_THAT(test::message_of<DataError>([&] { read(long_row); }), HasSubstr("too many even without prompt text"));
}

TEST_F(ReadDataset, TruncatePromptSparesSystemTextToTheLast) {
  auto row = options(
      "{\"messages\": [{\"role\": \"system\", \"content\": \"c c c\"}, {\"role\": \"user\", \"content\": \"a a a\"}, "
      "{\"role\": \"assistant\", \"content\": \"b\"}]}");
  row.excess_length = ExcessLength::kTruncatePrompt;
  row.sequence_len = 12;
  EXPECT_EQ(only(row), "<|system|> c c c<|end|><|user|> a<|end|><|assistant|>[ b][<|end|>][<|endoftext|>]");
  row.sequence_len = 10;
  EXPECT_EQ(only(row), "<|system|> c c<|end|><|user|><|end|><|assistant|>[ b][<|end|>][<|endoftext|>]");
}

TEST_F(ReadDataset, TruncateEndKeepsTheStart) {
  auto row = options(chat_line("a", "b b b b b"));
  row.excess_length = ExcessLength::kTruncateEnd;
  row.sequence_len = 6;
  EXPECT_EQ(only(row), "<|user|> a<|end|><|assistant|>[ b][ b]");
  row.sequence_len = 4;
  EXPECT_THAT(test::message_of<DataError>([&] { read(row); }),
              HasSubstr("data.jsonl:1: no trained token is left after cutting 11 tokens to sequence_len 4"));
}

TEST_F(ReadDataset, SplitMakesPiecesWhoseFirstTokenIsNoTarget) {
  auto row = options("{\"text\": \"a b c d a b c\"}");
  row.excess_length = ExcessLength::kSplit;
  row.sequence_len = 3;
  const Dataset dataset = read(row);
  ASSERT_EQ(dataset.train.size(), 3U);
  EXPECT_EQ(marked(dataset.train[0]), " a[ b][ c]");
  EXPECT_EQ(marked(dataset.train[1]), " d[ a][ b]");
  EXPECT_EQ(marked(dataset.train[2]), " c[<|endoftext|>]");
  EXPECT_EQ(dataset.train_report.split_pieces, 2);
  EXPECT_NE(dataset.train[0].sample_id, dataset.train[1].sample_id);
  auto chat = options(long_chat(), "chat.jsonl");
  chat.excess_length = ExcessLength::kSplit;
  chat.sequence_len = 20;
  const Dataset pieces = read(chat);
  EXPECT_EQ(pieces.train.size(), 1U);
  EXPECT_EQ(pieces.train_report.untrained_pieces, 2);
}

TEST_F(ReadDataset, TokenIdsMustFitTheModel) {
  const auto row = options(chat_line("a", "b") + chat_line("c", "d"));
  const auto chat = test::template_for("phi_3", *tokenizer_);
  EXPECT_THAT(test::message_of<DataError>([&] { read_dataset(row, *tokenizer_, chat, 1610); }),
              HasSubstr("data.jsonl:1: token id 1610 (\"<|user|>\") is not below the model's vocab_size 1610"));
  EXPECT_NO_THROW(read_dataset(row, *tokenizer_, chat, 1611));
}

std::set<std::string> texts(const std::vector<Example>& examples, const Tokenizer& tokenizer) {
  std::set<std::string> out;
  for (const Example& example : examples) {
    out.insert(tokenizer.decode(example.input_ids));
  }
  return out;
}

TEST_F(ReadDataset, ASplitByFractionStaysWhenRowsAreAdded) {
  auto some = options(text_lines(400));
  some.val_set_size = 0.2;
  const Dataset before = read(some);
  EXPECT_NEAR(static_cast<double>(before.validation.size()), 80.0, 32.0) << "four standard deviations";
  EXPECT_EQ(before.train.size() + before.validation.size(), 400U);
  EXPECT_EQ(before.train_report.records + before.validation_report.records, 400);
  auto more = options(text_lines(300, 400) + text_lines(400), "more.jsonl");
  more.val_set_size = 0.2;
  const Dataset after = read(more);
  const auto held = texts(after.validation, *tokenizer_);
  for (const auto& text : texts(before.validation, *tokenizer_)) {
    EXPECT_TRUE(held.contains(text));
  }
  const auto trained = texts(after.train, *tokenizer_);
  for (const auto& text : texts(before.train, *tokenizer_)) {
    EXPECT_TRUE(trained.contains(text));
  }
}

TEST_F(ReadDataset, ASplitByCountTakesThatMany) {
  auto rows = options(text_lines(50));
  rows.val_set_size = 7;
  const Dataset dataset = read(rows);
  EXPECT_EQ(dataset.validation.size(), 7U);
  EXPECT_EQ(dataset.train.size(), 43U);
}

TEST_F(ReadDataset, EqualRecordsLandOnOneSide) {
  for (const double size : {0.3, 5.0}) {
    auto rows = options(text_lines(40) + text_lines(40) + text_lines(40));
    rows.val_set_size = size;
    const Dataset dataset = read(rows);
    const auto trained = texts(dataset.train, *tokenizer_);
    for (const auto& text : texts(dataset.validation, *tokenizer_)) {
      EXPECT_FALSE(trained.contains(text)) << text;
    }
    EXPECT_GE(static_cast<double>(dataset.validation.size()), size);
    EXPECT_EQ(dataset.validation.size() % 3, 0U);
    EXPECT_EQ(dataset.train_report.duplicates + dataset.validation_report.duplicates, 80);
  }
}

TEST_F(ReadDataset, ASplitThatLeavesASideEmptyIsRefused) {
  auto rows = options(text_lines(3));
  rows.val_set_size = 1e-9;
  EXPECT_THAT(test::message_of<DataError>([&] { read(rows); }), HasSubstr("holds out none of the 3 records"));
  rows.val_set_size = 3;
  EXPECT_THAT(test::message_of<DataError>([&] { read(rows); }), HasSubstr("no record is left to train on"));
  rows.val_set_size = 1.5;
  EXPECT_THROW(read(rows), ConfigError);
}

TEST_F(ReadDataset, TestDatasetsAreReadAndLeaksCounted) {
  auto rows = options(text_lines(5));
  rows.test_datasets.resize(1);
  rows.test_datasets[0].path = folder_.write("test.jsonl", text_lines(4, 3));
  const Dataset dataset = read(rows);
  EXPECT_EQ(dataset.train.size(), 5U);
  EXPECT_EQ(dataset.validation.size(), 4U);
  EXPECT_EQ(dataset.validation_report.also_in_training, 2);
  EXPECT_EQ(dataset.place(dataset.validation[1].source), folder_ / "test.jsonl" + ":2");
  rows.val_set_size = 0.5;
  EXPECT_THAT(test::message_of<ConfigError>([&] { read(rows); }), HasSubstr("val_set_size and test_datasets"));
}

TEST_F(ReadDataset, FilesOfAFolderThatAreLeftOutAreNoted) {
  DataOptions rows;
  rows.datasets.resize(1);
  rows.datasets[0].path = folder_.path();
  folder_.write("a.jsonl", text_lines(2));
  EXPECT_TRUE(read(rows).train_report.notes.empty());
  folder_.write("b.csv", "x");
  EXPECT_THAT(
      read(rows).train_report.notes,
      ElementsAre(folder_.path() + ": 1 entry is not read, only *.jsonl and *.json of the folder itself are: b.csv"));
  for (const auto* name : {"c.csv", "d.csv", "e.csv", "f.csv", "g.csv", "h.csv"}) {
    folder_.write(name, "x");
  }
  EXPECT_THAT(read(rows).train_report.notes,
              ElementsAre(testing::AllOf(HasSubstr(": 7 entries are not read"),
                                         HasSubstr(": b.csv, c.csv, d.csv, e.csv, f.csv and 2 more"))));
}

TEST_F(ReadDataset, AnEmptyFileIsNamedAndNothingElseIsSaid) {
  const auto rows = options("");
  EXPECT_EQ(test::message_of<DataError>([&] { read(rows); }),
            rows.datasets[0].path + ": the file is empty; wanted records, one a line");
}

TEST_F(ReadDataset, RolesToTrainAreRoles) {
  auto row = options(chat_line("a", "b"));
  row.datasets[0].roles_to_train = {"assistant", "gpt"};
  EXPECT_THAT(test::message_of<ConfigError>([&] { read(row); }), HasSubstr("names \"gpt\"; wanted system, user"));
}

TEST_F(ReadDataset, DefaultSystemMessage) {
  auto row = options(chat_line("a", "b"));
  row.default_system_message = "c";
  EXPECT_EQ(only(row), "<|system|> c<|end|>" + std::string(kAnswer));
  EXPECT_THAT(test::message_of<ConfigError>([&] { read(row, "phi_3_medium"); }),
              HasSubstr("phi_3_medium has no place for system messages"));
}

TEST_F(ReadDataset, TheFingerprintFollowsIdsLabelsAndWeights) {
  const auto rows = options(chat_line("a", "b"));
  const auto print = read(rows).fingerprint();
  EXPECT_EQ(print, read(rows).fingerprint());
  auto inputs = rows;
  inputs.train_on_inputs = true;
  EXPECT_NE(print, read(inputs).fingerprint());
  EXPECT_NE(print, read(options(chat_line("a", "c"))).fingerprint());
}

TEST_F(ReadDataset, ReadsTheDemoSetsAsTheyAre) {
  const char* named = std::getenv("PHI3TUNE_DEMO_DATASETS");
  const std::string folder =
      (named != nullptr ? named : std::string(PHI3TUNE_SOURCE_DIR) + "/../shared/datasets") + "/";
  if (!std::ifstream(folder + "alpaca_en_demo.json") || !std::ifstream(folder + "c4_demo.jsonl")) {
    GTEST_SKIP() << "LLaMA-Factory's demo sets are not there; set PHI3TUNE_DEMO_DATASETS to a folder that has "
                    "alpaca_en_demo.json and c4_demo.jsonl";
  }
  DataOptions rows;
  rows.datasets.resize(2);
  rows.datasets[0].path = folder + "alpaca_en_demo.json";
  rows.datasets[1].path = folder + "c4_demo.jsonl";
  rows.sequence_len = 1 << 20;
  const Dataset dataset = read(rows);
  EXPECT_THAT(dataset.train_report.formats, ElementsAre(Pair("alpaca", 999), Pair("text", 300)));
  EXPECT_EQ(dataset.place(dataset.train[1].source), folder + "alpaca_en_demo.json:7");
}

}  // namespace
}  // namespace phi3tune::data
