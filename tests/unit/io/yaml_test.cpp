#include "phi3tune/io/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "phi3tune/core/error.h"
#include "support/temp_folder.h"

namespace phi3tune::io {
namespace {

using test::message_of;
using test::TempFolder;

TEST(Yaml, TreeKeepsOrderPositionsAndText) {
  const auto root = parse_yaml(
      "# a run\n"
      "learning_rate: 2e-4\n"
      "name: '12'\n"
      "datasets:\n"
      "  - path: a.jsonl\n"
      "    type: messages\n"
      "  - path: b.jsonl\n"
      "empty:\n"
      "tilde: ~\n",
      "run.yaml");
  ASSERT_EQ(root.kind, YamlNode::Kind::kMapping);
  ASSERT_EQ(root.members.size(), 5u);
  EXPECT_EQ(root.members[0].first.scalar, "learning_rate");
  EXPECT_EQ(root.members[0].first.position.text(), "run.yaml:2:1");
  EXPECT_EQ(root.find("learning_rate")->scalar, "2e-4");
  EXPECT_EQ(root.find("learning_rate")->position.text(), "run.yaml:2:16");
  EXPECT_FALSE(root.find("learning_rate")->quoted);
  EXPECT_EQ(root.find("name")->scalar, "12");
  EXPECT_TRUE(root.find("name")->quoted);
  const auto* datasets = root.find("datasets");
  ASSERT_EQ(datasets->items.size(), 2u);
  EXPECT_EQ(datasets->items[1].find("path")->scalar, "b.jsonl");
  EXPECT_EQ(datasets->items[0].find("type")->position.text(), "run.yaml:6:11");
  EXPECT_EQ(root.find("empty")->kind, YamlNode::Kind::kNull);
  EXPECT_EQ(root.find("tilde")->kind, YamlNode::Kind::kNull);
  EXPECT_EQ(root.find("nowhere"), nullptr);
}

TEST(Yaml, QuotesCloseOnLaterLinesAndMayBeEscaped) {
  const auto root = parse_yaml(
      "\xEF\xBB\xBF"
      "a: 'it''s'\nb: \"two\n  lines\"\nc: \"\\\"\"\n'd': ''''\ne: [\"\\\\\", '']\n",
      "f");
  EXPECT_EQ(root.find("a")->scalar, "it's");
  EXPECT_EQ(root.find("b")->scalar, "two lines");
  EXPECT_EQ(root.find("c")->scalar, "\"");
  EXPECT_EQ(root.find("d")->scalar, "'");
  EXPECT_EQ(root.find("e")->items[0].scalar, "\\");
}

TEST(Yaml, EmptyTextIsNull) {
  EXPECT_EQ(parse_yaml("", "f").kind, YamlNode::Kind::kNull);
  EXPECT_EQ(parse_yaml("# only a comment\n", "f").kind, YamlNode::Kind::kNull);
}

TEST(Yaml, WindowsLineEndsAndByteOrderMark) {
  const auto root = parse_yaml(
      "\xEF\xBB\xBF"
      "a: 1\r\nb: two\r\nc: '3'\r\n",
      "f");
  EXPECT_EQ(root.find("a")->scalar, "1");
  EXPECT_EQ(root.find("b")->scalar, "two");
  EXPECT_TRUE(root.find("c")->quoted);
}

TEST(Yaml, AllFaultsOfAFileComeTogether) {
  EXPECT_EQ(message_of<ConfigError>([] {
              parse_yaml(
                  "a: 1\n"
                  "b: &x 2\n"
                  "c: *x\n"
                  "a: 3\n"
                  "d: !secret 4\n"
                  "? [1, 2]\n"
                  ": 5\n",
                  "f.yaml");
            }),
            "f.yaml:2:4: an anchor (&name); write the value out where it is needed\n"
            "f.yaml:3:4: an alias (*name); write the value out\n"
            "f.yaml:4:1: `a` is given twice, first at line 1; keep one\n"
            "f.yaml:5:4: a tag (!secret); a value is read as its setting wants it, take the tag out\n"
            "f.yaml:6:3: a key that is not plain text");
}

struct BadYaml {
  const char* name;
  std::string text;
  const char* message;  // a part
};
const BadYaml kBadYamls[] = {
    {"Unclosed", "a: [1, 2\nb: 3\n", "f:2:"},
    {"TabIndent", "a:\n\tb: 1\n", "f:2:3: illegal map value; the line is indented with a tab"},
    {"TwoDocuments", "a: 1\n---\nb: 2\n", "f:2:1: a second document"},
    {"NestedDuplicate", "a:\n  b: 1\n  b: 2\n", "f:3:3: `b` is given twice, first at line 2"},
    {"QuotedDuplicate", "a: 1\n'a': 2\n", "f:2:1: `a` is given twice"},
    {"NullKey", "null: 1\n", "an empty key"},
    {"TooDeep", std::string(33, '[') + std::string(33, ']'), "deeper than 32 levels"},
    {"FarTooDeep", std::string(200'000, '['), "f:1:"},
    {"BadUtf8", "a: 1\nb: \xff\n", "f:2:4: byte 0xff is not UTF-8"},
    {"Nul", std::string("a: 1\0b", 6), "f:1:5: byte 0x00"},
    {"EndOfTransmission",
     "a: 1\n\x04"
     "b: 2\n",
     "f:2:1: byte 0x04"},
    {"UnknownAlias", "a: *b\n", "f:1:4"},
    {"UnclosedQuote", "a: 1\nb: 'two\n", "f:2:4: the quote ' is never closed"},
    {"UnclosedQuoteOverLines", "a: \"one\nb: 2\n", "f:1:4: the quote \" is never closed"},
    {"UnclosedQuoteOfAKey", "a: 1\n'b: 2\n", "f:2:1: "},
    {"QuoteClosedByItsEscapeAlone", "a: \xC3\xA9\nb: 'it''\n", "f:2:4: the quote ' is never closed"},
    {"UnclosedQuoteBehindAByteOrderMark",
     "\xEF\xBB\xBF"
     "a: \"\\\"\n",
     "f:1:4: the quote \" is never closed"},
    {"CoreTag", "a: !!int 7\n", "f:1:4: a tag (!!int)"},
    {"TagOfAMapping", "a: !!map {b: 1}\n", "f:1:4: a tag (!!map)"},
    {"TagOfNothing", "a: !!null\nb: 1\n", "f:1:4: a tag (!!null)"},
    {"BareTag", "a: ! 7\n", "f:1:4: a tag (!)"},
};
class RefusedYaml : public ::testing::TestWithParam<BadYaml> {};
TEST_P(RefusedYaml, IsReportedWithItsPlace) {
  EXPECT_THAT(message_of<ConfigError>([] { parse_yaml(GetParam().text, "f"); }),
              ::testing::HasSubstr(GetParam().message));
}
INSTANTIATE_TEST_SUITE_P(Texts, RefusedYaml, ::testing::ValuesIn(kBadYamls),
                         [](const auto& info) { return std::string(info.param.name); });
TEST(Yaml, BadTextsAreAllThere) { EXPECT_EQ(std::size(kBadYamls), 21u); }

TEST(Yaml, DeepestAllowedLevelIsRead) { EXPECT_NO_THROW(parse_yaml(std::string(32, '[') + std::string(32, ']'), "f")); }

TEST(YamlFile, MissingFileIsNamed) {
  EXPECT_THAT(message_of<ConfigError>([] { read_yaml_file("/nowhere/run.yaml"); }),
              ::testing::HasSubstr("/nowhere/run.yaml"));
}

}  // namespace
}  // namespace phi3tune::io
