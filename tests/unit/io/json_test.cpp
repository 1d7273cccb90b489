#include "phi3tune/io/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "phi3tune/core/error.h"
#include "phi3tune/io/json_members.h"
#include "support/temp_folder.h"

namespace phi3tune::io {
namespace {

using test::message_of;
using test::TempFolder;
using ::testing::HasSubstr;

struct BadText {
  const char* name;
  std::string text;
  size_t line;
  size_t column;
  const char* what;  // a part of the message
};

const BadText kBadTexts[] = {
    {"Empty", "", 1, 1, "ends too early"},
    {"OnlySpace", " \n ", 2, 2, "ends too early"},
    {"Unclosed", "{\"a\": [1, 2", 1, 12, "ends too early"},
    {"Trailing", "{}\n{}", 2, 1, "end of input"},
    {"MissingValue", "{\"a\": }", 1, 7, "unexpected '}'"},
    {"TrailingComma", "[1,\n2,]", 2, 3, "unexpected ']'"},
    {"Duplicate", "{\"a\": 1,\n  \"a\": 2}", 2, 3, "\"a\" is given twice"},
    {"DuplicateByEscape", "{\"a\": 1, \"\\u0061\": 2}", 1, 10, "\"a\" is given twice"},
    {"DuplicateQuote", "{\"\\\"\": 1,\n\"\\\"\": 2}", 2, 1, "is given twice"},
    {"DuplicateDeep", "{\"x\": [{\"b\": 1, \"c\": 2, \"b\": 3}]}", 1, 25, "\"b\" is given twice"},
    {"BadUtf8", "{\"a\": \"\xff\"}", 1, 8, "0xff is not UTF-8"},
    {"OverlongUtf8", "[\"\xc0\xaf\"]", 1, 3, "0xc0 is not UTF-8"},
    {"SurrogateUtf8", "[\"\xed\xa0\x80\"]", 1, 3, "0xed is not UTF-8"},
    {"LoneSurrogate", "[\"\\ud800\"]", 1, 9, "surrogate"},
    {"Nul", std::string("{}\0{", 4), 1, 3, "NUL"},
    {"ControlInString", "[\"a\nb\"]", 1, 4, "control character"},
    {"HugeNumber", "[1e999]", 1, 6, "1e999"},
    {"NotANumber", "[NaN]", 1, 2, "invalid literal"},
    {"LeadingZero", "[01]", 1, 3, "unexpected number literal"},
    {"Comment", "{} // done", 1, 4, "invalid literal"},
    {"SingleQuotes", "{'a': 1}", 1, 2, "invalid literal"},
    {"ByteOrderMark", "\xEF\xBB\xBF{}", 1, 1, "byte order mark"},
    {"TooDeep", std::string(65, '['), 1, 65, "deeper than 64"},
    {"FarTooDeep", std::string(1'000'000, '['), 1, 65, "deeper than 64"},
};

class BadJson : public ::testing::TestWithParam<BadText> {};

TEST_P(BadJson, IsRefusedAtItsPlace) {
  const auto& bad = GetParam();
  Json value = 1;
  JsonFault fault;
  ASSERT_FALSE(parse_json(bad.text, value, fault));
  EXPECT_EQ(fault.line, bad.line) << fault.what;
  EXPECT_EQ(fault.column, bad.column) << fault.what;
  EXPECT_THAT(fault.what, HasSubstr(bad.what));
  EXPECT_TRUE(value.is_null());
}
INSTANTIATE_TEST_SUITE_P(Texts, BadJson, ::testing::ValuesIn(kBadTexts),
                         [](const auto& info) { return std::string(info.param.name); });
TEST(Json, BadTextsAreAllThere) { EXPECT_EQ(std::size(kBadTexts), 24u); }

TEST(Json, MessageIsShortAndCleanForAnyBytes) {
  Json value;
  JsonFault fault;
  ASSERT_FALSE(parse_json("[\"" + std::string(5000, 'x') + "\n\"]", value, fault));
  EXPECT_LT(fault.what.size(), 300u);
  ASSERT_FALSE(parse_json("[\xC3\xA9]", value, fault));
  EXPECT_THAT(fault.what, HasSubstr("\\xc3"));
}

TEST(Json, ReadsEveryKindOfValueInFileOrder) {
  Json value;
  JsonFault fault;
  ASSERT_TRUE(parse_json(R"({"z": null, "a": [true, -3, 18446744073709551615, 0.1], "s": "\u00e9\ud83d\ude00\n"})",
                         value, fault));
  EXPECT_EQ(value.begin().key(), "z");
  EXPECT_TRUE(value["z"].is_null());
  EXPECT_EQ(value["a"][0], true);
  EXPECT_EQ(value["a"][1], -3);
  EXPECT_EQ(value["a"][2].get<uint64_t>(), 18446744073709551615u);
  EXPECT_EQ(value["a"][3].get<double>(), 0.1);
  EXPECT_EQ(value["s"], "\xC3\xA9\xF0\x9F\x98\x80\n");
}

TEST(Json, SameKeyInDifferentObjectsIsFine) {
  Json value;
  JsonFault fault;
  EXPECT_TRUE(parse_json(R"([{"a": {"a": 1}}, {"a": 2}])", value, fault)) << fault.what;
}

TEST(Json, DepthLimitCountsContainersOnly) {
  Json value;
  JsonFault fault;
  EXPECT_TRUE(parse_json("[[1]]", value, fault, {.depth = 2}));
  EXPECT_FALSE(parse_json("[[[1]]]", value, fault, {.depth = 2}));
  EXPECT_TRUE(parse_json(std::string(64, '[') + std::string(64, ']'), value, fault));
}

// A vocabulary has hundreds of thousands of keys: reading it must not look each up among all before it.
TEST(Json, ManyKeysAreReadInLinearTimeAndStillChecked) {
  std::string text = "{";
  for (int i = 0; i < 300'000; ++i) {
    text += "\"token" + std::to_string(i) + "\": " + std::to_string(i) + ",\n";
  }
  Json value;
  JsonFault fault;
  EXPECT_TRUE(parse_json(text + "\"end\": 0}", value, fault)) << fault.what;
  EXPECT_EQ(value.size(), 300'001u);
  EXPECT_FALSE(parse_json(text + "\"token7\": 0}", value, fault));
  EXPECT_EQ(fault.line, 300'001u);
}

TEST(JsonMembers, ComeOneByOneInOrder) {
  std::string seen;
  JsonFault fault;
  const auto keep = [&](std::string& name, Json& value) { seen += name + "=" + value.dump() + ";"; };
  ASSERT_TRUE(parse_json_members(R"({"a": 1, "b": {"c": [2, {}]}, "a": [], "d": "x"})", keep, fault));
  EXPECT_EQ(seen, R"(a=1;b={"c":[2,{}]};a=[];d="x";)");
  seen.clear();
  EXPECT_TRUE(parse_json_members("{}", keep, fault));
  EXPECT_EQ(seen, "");
}

TEST(JsonMembers, FaultsAreThoseOfAnyJson) {
  JsonFault fault;
  const auto ignore = [](std::string&, Json&) {};
  EXPECT_FALSE(parse_json_members("[1]", ignore, fault));
  EXPECT_EQ(fault.what, "wanted an object");
  EXPECT_FALSE(parse_json_members("7", ignore, fault));
  EXPECT_FALSE(parse_json_members("[]", ignore, fault));
  EXPECT_FALSE(parse_json_members(R"({"a": {"b": 1, "b": 2}})", ignore, fault));
  EXPECT_THAT(fault.what, HasSubstr("\"b\" is given twice"));
  EXPECT_FALSE(parse_json_members(R"({"a": 1,)", ignore, fault));
  EXPECT_THROW((void)parse_json_members(R"({"a": 1})", [](std::string&, Json&) { throw ModelError("x"); }, fault),
               ModelError);
}

TEST(JsonFile, FaultNamesFileLineAndColumn) {
  const TempFolder folder;
  const auto path = folder.write("config.json", "{\n  \"a\": 1,\n  \"a\": 2\n}\n");
  EXPECT_EQ(message_of<ModelError>([&] { read_json_file<ModelError>(path); }),
            path + ":3:3: key \"a\" is given twice in one object");
}

TEST(JsonFile, OneByteOrderMarkIsPassedOver) {
  const TempFolder folder;
  EXPECT_EQ(read_json_file<DataError>(folder.write("a.json", "\xEF\xBB\xBF{\"a\": 1}"))["a"], 1);
  EXPECT_THROW(read_json_file<DataError>(folder.write("b.json", "\xEF\xBB\xBF\xEF\xBB\xBF{}")), DataError);
}

TEST(TextFile, WhatCannotBeReadIsNamed) {
  const TempFolder folder;
  EXPECT_THAT(message_of<ConfigError>([&] { read_text_file<ConfigError>(folder / "none.yaml"); }),
              ::testing::AllOf(HasSubstr("none.yaml"), HasSubstr("No such file")));
  EXPECT_THAT(message_of<CheckpointError>([&] { read_text_file<CheckpointError>(folder.path()); }),
              HasSubstr("a folder, wanted a file"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(message_of<DataError>([&] { read_text_file<DataError>(folder / "pipe"); }),
              HasSubstr("not a regular file"));
}

TEST(TextFile, SizeLimitIsExact) {
  const TempFolder folder;
  const auto path = folder.write("five", "12345");
  EXPECT_EQ(read_text_file<DataError>(path, 5), "12345");
  EXPECT_THAT(message_of<DataError>([&] { read_text_file<DataError>(path, 4); }), HasSubstr("larger than 4 B"));
}

TEST(JsonSize, ValuesAndMembersAndTokensAreBounded) {
  const auto fault_of = [](const std::string& text, const JsonLimits& limits) {
    Json value;
    JsonFault fault;
    return parse_json(text, value, fault, limits) ? std::string("good") : fault.what;
  };
  EXPECT_EQ(fault_of("[1, [2], {}]", {.values = 5}), "good");
  EXPECT_EQ(fault_of("[1, [2], {}]", {.values = 4}), "more than 4 values");
  EXPECT_EQ(fault_of(R"({"a": 1, "b": {"c": 1, "d": 2}})", {.members = 2}), "good");
  EXPECT_EQ(fault_of(R"({"a": {"c": 1, "d": 2, "e": 3}})", {.members = 2}), "more than 2 members in one object");
  EXPECT_EQ(fault_of(R"(["abcdefg"])", {.token = 8}), "good");
  EXPECT_EQ(fault_of(R"(["abc\"efgh"])", {.token = 8}), "more than 8 B in one piece");
  EXPECT_EQ(fault_of("[" + std::string(9, ' ') + "1]", {.token = 8}), "more than 8 B in one piece");
  EXPECT_EQ(fault_of("[" + std::string(9, '1') + "]", {.token = 8}), "more than 8 B in one piece");
}

TEST(JsonSize, AFaultOfManyKeysIsStillTheRepeatedOne) {
  std::string text = "{";
  for (int i = 0; i < 1000; ++i) {
    text += "\"k" + std::to_string(i) + "\": 0, ";
  }
  Json value;
  JsonFault fault;
  EXPECT_TRUE(parse_json(text + "\"last\": 0}", value, fault)) << fault.what;
  EXPECT_FALSE(parse_json(text + "\"k500\": 0}", value, fault));
  EXPECT_EQ(fault.what, "key \"k500\" is given twice in one object");
}

TEST(TextFile, OneThatIsTooLargeIsNotRead) {
  const TempFolder folder;
  const auto path = folder.write("large", "");
  ASSERT_EQ(::truncate(path.c_str(), off_t{10'000'000'000}), 0);
  EXPECT_THAT(message_of<DataError>([&] { read_json_file<DataError>(path); }), HasSubstr("larger than 4.0 MiB"));
}

}  // namespace
}  // namespace phi3tune::io
