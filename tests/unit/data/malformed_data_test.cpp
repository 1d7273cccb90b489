// Data files that must not pass: each is refused in one report that names the place and the way out.
#include <gmock/gmock.h>

#include "chat_support.h"
#include "phi3tune/core/error.h"
#include "phi3tune/data/dataset.h"

namespace phi3tune::data {
namespace {

using config::RecordFormat;
using testing::HasSubstr;

struct BadFile {
  const char* name;
  std::string contents;
  const char* place;  // behind the file's name
  const char* message;
  RecordFormat format = RecordFormat::kAuto;
};

const std::string kGood =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n";

std::string message_with(const std::string& member) {
  return "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", " + member + "}]}\n";
}

std::string nul_in_line() { return kGood + std::string("{\"text\": \"a\0b\"}\n", 16); }

const std::vector<BadFile>& bad_files() {
  static const std::vector<BadFile> kFiles = {
      // bytes
      {"nul byte", nul_in_line(), ":2:12", "a NUL byte; wanted text in UTF-8"},
      {"escaped nul", kGood + R"({"text": "a\u0000"})", ":2:12", "the character NUL (\\u0000)"},
      {"bad utf-8", kGood + "{\"text\": \"a\xC3\x28\"}\n", ":2:12", "byte 0xC3 is not UTF-8 here"},
      {"latin-1",
       "{\"text\": \"Gr\xF6\xDF"
       "e\"}\n",
       ":1:13", "byte 0xF6 is not UTF-8"},
      {"overlong utf-8", "{\"text\": \"\xC0\xAF\"}\n", ":1:11", "byte 0xC0 is not UTF-8"},
      {"surrogate in utf-8", "{\"text\": \"\xED\xA0\x80\"}\n", ":1:11", "byte 0xED is not UTF-8"},
      {"utf-16", std::string("\xFF\xFE{\0\"\0", 6), ":1:1", "the file is UTF-16"},
      {"inner byte order mark", kGood + "\xEF\xBB\xBF" + kGood, ":2:1", "a byte order mark (U+FEFF) inside the file"},
      {"byte order mark in a text", "{\"text\": \"a\xEF\xBB\xBF\"}\n", ":1:12", "write \\ufeff where a text means it"},
      // JSON
      {"empty", "", "", "the file is empty; wanted records, one a line"},
      {"blank", "\n\n  \n", "", "the file holds no record"},
      {"empty array", "[ ]\n", "", "the file holds no record"},
      {"cut off", kGood + "{\"messages\": [{\"role\": \"us", ":2:27", ""},
      {"object over many lines", "{\n  \"text\": \"a\"\n}\n", ":1:2", "a record stands on one line (JSON Lines)"},
      {"two objects on a line", "{\"text\": \"a\"} {\"text\": \"b\"}\n", ":1:15", ""},
      {"trailing comma", "{\"text\": \"a\",}\n", ":1:14", ""},
      {"single quotes", "{'text': 'a'}\n", ":1:2", ""},
      {"repeated key", "{\"text\": \"a\", \"text\": \"b\"}\n", ":1:", "text"},
      {"repeated key inside", message_with("\"content\": \"b\", \"content\": \"c\""), ":1:", "content"},
      {"lone surrogate", R"({"text": "\ud800"})", ":1:", ""},
      {"NaN", "{\"text\": NaN}\n", ":1:10", ""},
      {"raw newline in a text", "{\"text\": \"a\nb\"}\n", ":1:", ""},
      {"too deep", "{\"text\": " + std::string(100, '[') + std::string(100, ']') + "}\n", ":1:", ""},
      {"array not closed", "[{\"text\": \"a\"},\n{\"text\": \"b\"}\n", ":3:1", "the file ends inside the array"},
      {"array without a comma", "[{\"text\": \"a\"}\n{\"text\": \"b\"}]\n", ":2:1", ""},
      {"array with two commas", "[{\"text\": \"a\"},\n,{\"text\": \"b\"}]\n", ":2:1", "found a comma where a record"},
      {"array with a comma at its end", "[{\"text\": \"a\"},\n]\n", ":2:1", "found ] after a comma"},
      {"text behind the array", "[{\"text\": \"a\"}]\n{\"text\": \"b\"}\n", ":2:1", "text after the array's closing"},
      {"broken element", "[{\"text\": \"a\"},\n  {\"text\": b}]\n", ":2:12", ""},
      {"number as a record", "5\n", ":1", "a record is a number; wanted an object"},
      {"text as a record", "\"hello\"\n", ":1", "a record is text; wanted an object"},
      {"list as a record", "[[\"a\", \"b\"]]\n", ":1", "a record is a list; wanted an object"},
      // formats
      {"unknown keys", "{\"question\": \"a\", \"answer\": \"b\"}\n", ":1", "it has the keys \"question\", \"answer\""},
      {"two formats", "{\"instruction\": \"a\", \"output\": \"b\", \"text\": \"c\"}\n", ":1",
       "can be read as alpaca and text; it has the keys \"instruction\", \"output\", \"text\". Name one"},
      {"one message a line", "{\"role\": \"user\", \"content\": \"a\"}\n", ":1", "this is one message"},
      {"preferences", "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n", ":1", "preference data"},
      {"KTO labels", "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": false}\n", ":1", "preference data (KTO)"},
      {"conversations with role", "{\"conversations\": [{\"role\": \"user\", \"content\": \"a\"}]}\n", ":1",
       "field_messages: conversations"},
      {"format changes", kGood + "{\"text\": \"a\"}\n", ":2", "(read as messages, like the record at "},
      {"messages is text", "{\"messages\": \"a\"}\n", ":1", "\"messages\" is text; wanted a list"},
      {"messages is empty", "{\"messages\": []}\n", ":1", "\"messages\" is an empty list"},
      {"message is text", "{\"messages\": [\"a\"]}\n", ":1", "messages[0] is text; wanted an object"},
      {"no role", "{\"messages\": [{\"content\": \"a\"}]}\n", ":1",
       "messages[0].role is missing; found the keys \"content\""},
      {"unknown role", "{\"messages\": [{\"role\": \"asistant\", \"content\": \"a\"}]}\n", ":1",
       "did you mean assistant?"},
      {"role the template lacks", "{\"messages\": [{\"role\": \"tool\", \"content\": \"a\"}]}\n", ":1",
       "role \"tool\" has no place in the chat template phi_3"},
      {"no content", message_with("\"text\": \"b\""), ":1", "messages[1].content is missing"},
      {"content is null", message_with("\"content\": null"), ":1", "messages[1].content is null; wanted text"},
      {"content is a list", message_with("\"content\": [{\"type\": \"text\"}]"), ":1", "messages[1].content is a list"},
      {"tool calls", message_with("\"content\": \"\", \"tool_calls\": [{}]"), ":1", "messages[1].tool_calls is there"},
      {"tools", "{\"tools\": [{}], \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n", ":1",
       "\"tools\" is there"},
      {"weight is text", message_with("\"content\": \"b\", \"weight\": \"1\""), ":1", "messages[1].weight is text"},
      {"weight is negative", message_with("\"content\": \"b\", \"weight\": -1"), ":1", "messages[1].weight is -1"},
      {"train is a number", message_with("\"content\": \"b\", \"train\": 1"), ":1", "wanted true or false"},
      {"no answer", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n", ":1",
       "no token of the record is trained"},
      {"unknown sharegpt role", "{\"conversations\": [{\"from\": \"robot\", \"value\": \"a\"}]}\n", ":1",
       "conversations[0].from is \"robot\"; wanted human, gpt, system or tool"},
      {"sharegpt without value", "{\"conversations\": [{\"from\": \"gpt\"}]}\n", ":1",
       "conversations[0].value is missing"},
      {"alpaca output is null", "{\"instruction\": \"a\", \"output\": null}\n", ":1",
       "\"output\" is null; wanted text"},
      {"alpaca history", "{\"instruction\": \"a\", \"output\": \"b\", \"history\": [[\"c\"]]}\n", ":1",
       "[question, answer] pairs"},
      {"completion is a number", "{\"prompt\": \"a\", \"completion\": 4}\n", ":1",
       "\"completion\" is a number; wanted text"},
      {"prompt text, completion list", "{\"prompt\": \"a\", \"completion\": []}\n", ":1",
       "\"completion\" is a list; wanted text"},
      {"text is a list", "{\"text\": [\"a\"]}\n", ":1", "\"text\" is a list; wanted text"},
      {"empty text", "{\"text\": \"\"}\n", ":1", "no token of the record is trained"},
      {"named format, other keys", "{\"instruction\": \"a\", \"output\": \"b\"}\n", ":1",
       "\"text\" is missing; found the keys \"instruction\", \"output\"", RecordFormat::kText},
      {"too long", "{\"text\": \"" + std::string(5000, 'x') + "\"}\n", ":1",
       "and sequence_len is 2048; raise it, or set"},
  };
  return kFiles;
}

TEST(MalformedData, EveryFileIsRefusedWithItsPlace) {
  const Tokenizer tokenizer = test::open_tokenizer("spm_like");
  const ChatTemplate chat = test::template_for("phi_3", tokenizer);
  ASSERT_EQ(bad_files().size(), 64U);
  for (const BadFile& bad : bad_files()) {
    const test::TempFolder folder;
    config::DataOptions options;
    options.datasets.resize(1);
    options.datasets[0].path = folder.write("data.jsonl", bad.contents);
    options.datasets[0].format = bad.format;
    const auto message =
        test::message_of<DataError>([&] { read_dataset(options, tokenizer, chat, tokenizer.max_id() + 1); });
    EXPECT_THAT(message, HasSubstr(options.datasets[0].path + bad.place)) << bad.name;
    EXPECT_THAT(message, HasSubstr(bad.message)) << bad.name;
    EXPECT_LT(message.size(), 1500U) << bad.name << ": " << message;
  }
}

TEST(MalformedData, AllFaultsComeInOneReport) {
  const Tokenizer tokenizer = test::open_tokenizer("spm_like");
  const ChatTemplate chat = test::template_for("phi_3", tokenizer);
  const test::TempFolder folder;
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += i % 2 == 0 ? "{\"messages\": 5}\n" : kGood;
  }
  for (int i = 0; i < 40; ++i) {
    text += "{]\n";
  }
  config::DataOptions options;
  options.datasets.resize(1);
  options.datasets[0].path = folder.write("data.jsonl", text);
  options.max_bad_rows = 69;
  const auto message = test::message_of<DataError>([&] { read_dataset(options, tokenizer, chat, 0); });
  EXPECT_THAT(message, HasSubstr("data.jsonl:1: \"messages\" is a number"));
  EXPECT_THAT(message, HasSubstr("data.jsonl:80:2: "));
  EXPECT_THAT(message, testing::Not(HasSubstr("data.jsonl:81:2: ")));
  EXPECT_THAT(message, HasSubstr("... and 20 more\n70 faults in 100 records; max_bad_rows allows 69"));
  options.max_bad_rows = 70;
  const Dataset dataset = read_dataset(options, tokenizer, chat, 0);
  EXPECT_EQ(dataset.train.size(), 30U);
  EXPECT_EQ(dataset.train_report.malformed, 70);
  EXPECT_EQ(dataset.train_report.records, 100);
  EXPECT_EQ(dataset.train_report.faults.size(), 50U);
}

}  // namespace
}  // namespace phi3tune::data
