#include "phi3tune/data/questions.h"

#include <gtest/gtest.h>

#include "chat_support.h"
#include "phi3tune/core/error.h"

namespace phi3tune::data {
namespace {

class Questions : public testing::Test {
 protected:
  static void SetUpTestSuite() { tokenizer_ = std::make_unique<Tokenizer>(test::open_tokenizer("spm_like")); }
  static void TearDownTestSuite() { tokenizer_.reset(); }

  std::optional<Question> ask(const std::string& json, config::RecordFormat format) {
    return question_of(parse_record(io::Json::parse(json), format, {}), *tokenizer_, chat_, system_);
  }
  std::string rendered(const Question& question) { return tokenizer_->decode(question.prompt); }

  ChatTemplate chat_ = test::template_for("phi_3", *tokenizer_);
  std::optional<std::string> system_;
  test::TempFolder folder_;
  static std::unique_ptr<Tokenizer> tokenizer_;
};
std::unique_ptr<Tokenizer> Questions::tokenizer_;

constexpr auto kMessages = config::RecordFormat::kMessages;

TEST_F(Questions, AskWhatStandsBeforeTheLastAnswer) {
  const auto question =
      ask(R"({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
      {"role": "user", "content": "three"}, {"role": "assistant", "content": "four"}]})",
          kMessages);
  ASSERT_TRUE(question);
  EXPECT_EQ(question->reference, "four");
  EXPECT_EQ(question->text, "user: one\n\nassistant: two\n\nuser: three");
  const auto training = chat_.render({{"user", "one"}, {"assistant", "two"}, {"user", "three"}}, true).text;
  EXPECT_EQ(question->prompt, tokenizer_->encode(training));
  EXPECT_NE(training.find("<|assistant|>"), std::string::npos);
}

TEST_F(Questions, BeginWithTheDefaultSystemMessageOfTraining) {
  system_ = "be short";
  const auto question =
      ask(R"({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]})", kMessages);
  ASSERT_TRUE(question);
  EXPECT_EQ(question->text, "one");
  EXPECT_EQ(question->prompt, tokenizer_->encode(chat_.render({{"system", "be short"}, {"user", "one"}}, true).text));
}

TEST_F(Questions, OfPromptAndCompletionAreTheTwoTexts) {
  const auto question =
      ask(R"({"prompt": "two and two", "completion": " is four"})", config::RecordFormat::kPromptCompletion);
  ASSERT_TRUE(question);
  EXPECT_EQ(question->reference, " is four");
  auto prompt = tokenizer_->encode("two and two");
  if (tokenizer_->add_bos_token()) {
    prompt.insert(prompt.begin(), *tokenizer_->bos_id());
  }
  EXPECT_EQ(question->prompt, prompt);
}

TEST_F(Questions, AreNotInPlainTextOrWithoutAnAnswerToSomething) {
  EXPECT_FALSE(ask(R"({"text": "two and two"})", config::RecordFormat::kText));
  EXPECT_FALSE(ask(R"({"messages": [{"role": "assistant", "content": "two"}]})", kMessages));
  EXPECT_FALSE(ask(R"({"messages": [{"role": "user", "content": "two"}]})", kMessages));
}

TEST_F(Questions, AreThoseOfTheRecordsThatExamplesCameFrom) {
  config::DataOptions options;
  options.datasets.resize(1);
  options.datasets[0].path = folder_.write("train.jsonl", "{\"instruction\": \"t\", \"output\": \"u\"}\n");
  options.test_datasets.resize(2);
  options.test_datasets[0].path = folder_.write(
      "chat.jsonl",
      "\n{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "
      "\"b\"}]}\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"c\"}, {\"role\": \"assistant\", "
      "\"content\": \"d\"}]}\n");
  options.test_datasets[1].path = folder_.write("plain.jsonl", "{\"text\": \"nothing asked\"}\n");
  const auto dataset = read_dataset(options, *tokenizer_, chat_, tokenizer_->max_id() + 1);
  ASSERT_EQ(dataset.validation.size(), 3U);
  const auto questions = read_questions(options, dataset, dataset.validation, *tokenizer_, chat_);
  ASSERT_EQ(questions.size(), 3U);
  ASSERT_TRUE(questions[0] && questions[1]);
  EXPECT_EQ(questions[0]->reference, "b");
  EXPECT_EQ(questions[1]->reference, "d");
  EXPECT_FALSE(questions[2]);
}

TEST_F(Questions, OfASplitRecordStandAtItsFirstPiece) {
  config::DataOptions options;
  options.datasets.resize(1);
  options.datasets[0].path = folder_.write(
      "train.jsonl",
      "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"one two "
      "three "
      "four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen\"}]}\n");
  options.sequence_len = 16;
  options.excess_length = config::ExcessLength::kSplit;
  const auto dataset = read_dataset(options, *tokenizer_, chat_, tokenizer_->max_id() + 1);
  ASSERT_GT(dataset.train.size(), 1U);
  const auto questions = read_questions(options, dataset, dataset.train, *tokenizer_, chat_);
  EXPECT_TRUE(questions[0]);
  EXPECT_FALSE(questions[1]);
}

}  // namespace
}  // namespace phi3tune::data
