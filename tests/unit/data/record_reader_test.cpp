#include "phi3tune/data/record_reader.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "phi3tune/core/error.h"
#include "support/temp_folder.h"

namespace phi3tune::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// "line: value" of each record, or "line:column! fault".
std::vector<std::string> read(const std::string& text, size_t max_bytes = kMaxRecordBytes,
                              uint64_t* blank_lines = nullptr) {
  const test::TempFolder folder;
  RecordReader reader(folder.write("data.jsonl", text), max_bytes);
  std::vector<std::string> out;
  RawRecord record;
  while (reader.next(record)) {
    out.push_back(record.fault.empty()
                      ? fmt::format("{}: {}", record.line, record.value.dump())
                      : fmt::format("{}:{}! {}", record.fault_line, record.fault_column, record.fault));
  }
  if (blank_lines != nullptr) {
    *blank_lines = reader.blank_lines();
  }
  return out;
}

TEST(RecordReader, ReadsOneRecordALine) {
  EXPECT_THAT(read("{\"a\":1}\n{\"a\":2}\n"), ElementsAre("1: {\"a\":1}", "2: {\"a\":2}"));
  EXPECT_THAT(read("{\"a\":1}\n{\"a\":2}"), ElementsAre("1: {\"a\":1}", "2: {\"a\":2}"));
  EXPECT_THAT(read(""), ElementsAre());
  EXPECT_THAT(read("\n \n"), ElementsAre());
}

TEST(RecordReader, TakesAByteOrderMarkAndCarriageReturns) {
  EXPECT_THAT(read("\xEF\xBB\xBF{\"a\":1}\r\n{\"a\":2}\r\n"), ElementsAre("1: {\"a\":1}", "2: {\"a\":2}"));
  EXPECT_THAT(read("\xEF\xBB\xBF[{\"a\":1},\r\n{\"a\":2}]\r\n"), ElementsAre("1: {\"a\":1}", "2: {\"a\":2}"));
  EXPECT_THAT(read("\xEF\xBB\xBF"), ElementsAre());
}

TEST(RecordReader, CountsBlankLinesBetweenRecordsAndNotBehindThem) {
  uint64_t blanks = 0;
  EXPECT_THAT(read("{}\n\n \t\n{}\n\n\n", kMaxRecordBytes, &blanks), ElementsAre("1: {}", "4: {}"));
  EXPECT_EQ(blanks, 2U);
  EXPECT_THAT(read("\n\n  {}\n", kMaxRecordBytes, &blanks), ElementsAre("3: {}"));
  EXPECT_EQ(blanks, 2U);
}

TEST(RecordReader, ReadsTheElementsOfAnArrayWithTheirLines) {
  EXPECT_THAT(read(" [\n  {\"a\": \"x],[{\\\"\"},\n  {\n\"b\": [1, {\"c\": 2}]\n} , 5 ,\"s\"\n]\n \n"),
              ElementsAre("2: {\"a\":\"x],[{\\\"\"}", "3: {\"b\":[1,{\"c\":2}]}", "5: 5", "5: \"s\""));
  EXPECT_THAT(read("[]"), ElementsAre());
  EXPECT_THAT(read("[{}]"), ElementsAre("1: {}"));
}

TEST(RecordReader, AFaultCostsOneRecordOnly) {
  const auto lines = read("{\"a\":1}\n{\"a\":}\n{\"a\":3}\n");
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_THAT(lines[1], HasSubstr("2:6!"));
  EXPECT_EQ(lines[2], "3: {\"a\":3}");
  const auto elements = read("[{\"a\":1},\n {\"a\":},\n {\"a\":3}]");
  ASSERT_EQ(elements.size(), 3U);
  EXPECT_THAT(elements[1], HasSubstr("2:7!"));
  EXPECT_EQ(elements[2], "3: {\"a\":3}");
}

TEST(RecordReader, AnOverlongRecordIsSkippedWithoutBeingHeld) {
  const std::string longer(1000, 'x');
  EXPECT_THAT(read("{\"a\":\"" + longer + "\"}\n{\"a\":2}\n", 100),
              ElementsAre("1:101! the line is longer than 100 B", "2: {\"a\":2}"));
  EXPECT_THAT(read("[{\"a\":\"" + longer + "\"},\n{\"a\":2}]", 100),
              ElementsAre("1:2! the record is longer than 100 B", "2: {\"a\":2}"));
}

TEST(RecordReader, RecordsCrossTheBuffersBorders) {
  std::string lines;
  std::string elements = "[";
  constexpr int kRecords = 3000;
  for (int i = 0; i < kRecords; ++i) {
    const auto record = fmt::format("{{\"n\":{},\"t\":\"{}\"}}", i, std::string(static_cast<size_t>(i % 700), 'y'));
    lines += record + (i % 2 == 0 ? "\n" : "\r\n");
    elements += record + (i + 1 < kRecords ? ",\n" : "]");
  }
  ASSERT_GT(lines.size(), size_t{1} << 20);
  for (const std::string& text : {lines, elements}) {
    const auto records = read(text);
    ASSERT_EQ(records.size(), static_cast<size_t>(kRecords));
    for (int i = 0; i < kRecords; ++i) {
      EXPECT_TRUE(records[static_cast<size_t>(i)].starts_with(fmt::format("{}: {{\"n\":{},", i + 1, i)));
    }
  }
}

TEST(RecordReader, EscapedNulAndByteOrderMark) {
  EXPECT_THAT(read(R"({"a":"\\u0000 \ufeff"})"), ElementsAre("1: {\"a\":\"\\\\u0000 \xEF\xBB\xBF\"}"))
      << "an escaped backslash is no escaped NUL, and \\ufeff is meant";
  EXPECT_THAT(read(R"({"a":"\\\u0000"})"), ElementsAre(HasSubstr("1:9! the character NUL")));
}

TEST(ExpandDataPath, FilesFoldersAndPatternsInByteOrder) {
  const test::TempFolder folder;
  for (const auto* name : {"b.jsonl", "a.json", "B.jsonl", "notes.txt", "sub/c.jsonl"}) {
    folder.write(name, "{}");
  }
  EXPECT_THAT(expand_data_path(folder.path()), ElementsAre(folder / "B.jsonl", folder / "a.json", folder / "b.jsonl"));
  EXPECT_THAT(expand_data_path(folder / "*.jsonl"), ElementsAre(folder / "B.jsonl", folder / "b.jsonl"));
  EXPECT_THAT(expand_data_path(folder / "[ab].json*"), ElementsAre(folder / "a.json", folder / "b.jsonl"));
  EXPECT_THAT(expand_data_path(folder / "notes.txt"), ElementsAre(folder / "notes.txt"));
  folder.write("odd[1].jsonl", "{}");
  EXPECT_THAT(expand_data_path(folder / "odd[1].jsonl"), ElementsAre(folder / "odd[1].jsonl"))
      << "a file of that very name comes before the pattern";
}

TEST(ExpandDataPath, WhatElseStandsInAFolderIsNamed) {
  const test::TempFolder folder;
  for (const auto* name : {"a.jsonl", "notes.txt", ".hidden", "sub/c.jsonl", "b.jsonl.gz", "A.JSONL"}) {
    folder.write(name, "{}");
  }
  std::vector<std::string> left_out;
  EXPECT_THAT(expand_data_path(folder.path(), &left_out), ElementsAre(folder / "a.jsonl"));
  EXPECT_THAT(left_out, ElementsAre("A.JSONL", "b.jsonl.gz", "notes.txt", "sub/"));
  left_out.clear();
  (void)expand_data_path(folder / "*.jsonl", &left_out);
  EXPECT_TRUE(left_out.empty()) << "a pattern names what it wants";
}

TEST(ExpandDataPath, NothingFoundIsSaid) {
  const test::TempFolder folder;
  folder.write("sub/notes.txt", "");
  const auto message = [&](const std::string& path) {
    return test::message_of<DataError>([&] { expand_data_path(path); });
  };
  EXPECT_THAT(message(folder / "none.jsonl"), HasSubstr("none.jsonl: cannot be opened: No such file"));
  EXPECT_THAT(message(folder / "*.jsonl"), HasSubstr("no file matches the pattern"));
  EXPECT_THAT(message(folder / "sub"), HasSubstr("holds no .jsonl or .json file"));
}

TEST(RecordReader, PipesAndFoldersAreRefused) {
  const test::TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  for (const auto& path : {folder / "pipe", folder.path(), std::string("/dev/zero")}) {
    EXPECT_THAT(test::message_of<DataError>([&] { RecordReader reader(path); }), HasSubstr("is not a regular file"));
  }
}

}  // namespace
}  // namespace phi3tune::data
