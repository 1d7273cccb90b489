#include "phi3tune/core/text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "phi3tune/core/error.h"

namespace phi3tune {
namespace {

TEST(Utf8, WellFormedTextPasses) {
  for (const char* text : {"", "plain", "caf\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xED\x9F\xBF",
                           "\xEE\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(find_invalid_utf8(text), std::string_view::npos) << text;
  }
  EXPECT_EQ(find_invalid_utf8(std::string_view("a\0b", 3)), std::string_view::npos);
}

TEST(Utf8, FirstBadByteIsNamed) {
  struct Bad {
    std::string_view text;
    size_t offset;
  };
  const Bad cases[] = {
      {"ab\x80", 2},  // a continuation alone
      {"ab\xC3", 2},  // cut short
      {"\xC3"
       "a",
       0},                       // continuation missing
      {"\xC0\xAF", 0},           // overlong
      {"\xC1\xBF", 0},           // overlong
      {"x\xE0\x9F\xBF", 1},      // overlong, 3 bytes
      {"x\xF0\x8F\xBF\xBF", 1},  // overlong, 4 bytes
      {"\xED\xA0\x80", 0},       // surrogate
      {"\xF4\x90\x80\x80", 0},   // above U+10FFFF
      {"\xF5\x80\x80\x80", 0},   // no such lead
      {"\xFF", 0},
      {"caf\xC3\xA9\xE2\x82", 5},  // cut short after good text
  };
  for (const auto& bad : cases) {
    EXPECT_EQ(find_invalid_utf8(bad.text), bad.offset);
  }
}

TEST(Utf8, EveryScalarValueGoesOutAndComesBack) {
  size_t count = 0;
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    if (code >= 0xD800 && code <= 0xDFFF) {
      continue;
    }
    std::string text;
    append_utf8(text, code);
    ASSERT_EQ(find_invalid_utf8(text), std::string_view::npos) << static_cast<uint32_t>(code);
    size_t offset = 0;
    ASSERT_EQ(next_code_point(text, offset), code);
    ASSERT_EQ(offset, text.size());
    ++count;
  }
  EXPECT_EQ(count, 1112064u);
}

std::string nearest(std::string_view word, const std::vector<std::string_view>& names) {
  const auto found = nearest_name(word, names);
  return found ? std::string(*found) : "none";
}

TEST(NearestName, FindsSlipsOfThePen) {
  const std::vector<std::string_view> names{"lora_r", "lora_alpha", "learning_rate", "seed"};
  EXPECT_EQ(nearest("lora_alhpa", names), "lora_alpha");       // swapped: one
  EXPECT_EQ(nearest("lerning_rate", names), "learning_rate");  // missing
  EXPECT_EQ(nearest("seeed", names), "seed");                  // doubled
  EXPECT_EQ(nearest("lora_rnak", {"lora_rank", "lora_r"}), "lora_rank");
  EXPECT_EQ(nearest("optimizer", names), "none");
  EXPECT_EQ(nearest("xyzzy", names), "none");
  EXPECT_EQ(nearest("seed", {}), "none");
}

TEST(NearestName, AThirdOfTheWordIsTheLimit) {
  EXPECT_EQ(nearest("abcxyf", {"abcdef"}), "abcdef");  // 2 of 6
  EXPECT_EQ(nearest("abxyzf", {"abcdef"}), "none");    // 3 of 6
}

TEST(Numbers, BytesAreReadable) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(uint64_t{2791728742}), "2.6 GiB");
  EXPECT_EQ(format_bytes(std::numeric_limits<uint64_t>::max()), "16777216.0 TiB");
}

TEST(Numbers, BytesAreReadInEveryUnit) {
  EXPECT_EQ(parse_bytes("8GiB"), uint64_t{8} << 30);
  EXPECT_EQ(parse_bytes(" 512 MiB "), uint64_t{512} << 20);
  EXPECT_EQ(parse_bytes("1.5g"), uint64_t{3} << 29);
  EXPECT_EQ(parse_bytes("24GB"), uint64_t{24000000000});
  EXPECT_EQ(parse_bytes("2TiB"), uint64_t{2} << 40);
  EXPECT_EQ(parse_bytes("3k"), 3072U);
  EXPECT_EQ(parse_bytes("1048576"), 1048576U);
  EXPECT_EQ(parse_bytes("7 B"), 7U);
  for (const char* text :
       {"", "GiB", "8 bananas", "8GiBB", "-1GiB", "0", "8,5GiB", "nan", "inf", "9e30", "8 Gi B", "8XB"}) {
    EXPECT_FALSE(parse_bytes(text)) << text;
  }
}

TEST(Numbers, DoublesReadBackTheSame) {
  for (const double value : {0.1, 1e-5, 2e-4, 1.0 / 3, 1e300, -0.0, 5e-324, 123456789.0}) {
    const auto back = parse_double(format_double(value));
    ASSERT_TRUE(back) << value;
    EXPECT_EQ(*back, value);
    EXPECT_EQ(std::signbit(*back), std::signbit(value));
  }
  EXPECT_EQ(format_double(0.0002), "0.0002");
}

TEST(Numbers, OnlyAWholeStringIsANumber) {
  EXPECT_EQ(parse_double("2e-4"), 2e-4);
  EXPECT_EQ(parse_double("+1.5"), 1.5);
  EXPECT_EQ(parse_int("-12"), -12);
  EXPECT_EQ(parse_int("9223372036854775807"), std::numeric_limits<int64_t>::max());
  for (const char* text : {"", "+", " 1", "1 ", "1x", "0x10", "1,5", "++1", "+-1"}) {
    EXPECT_FALSE(parse_double(text)) << text;
    EXPECT_FALSE(parse_int(text)) << text;
  }
  EXPECT_FALSE(parse_int("1.0"));
  EXPECT_FALSE(parse_int("9223372036854775808"));
  EXPECT_FALSE(parse_double("1e999"));
}

TEST(Durations, AreReadAsPeopleWriteThem) {
  EXPECT_EQ(parse_duration("11h30m"), 41400.0);
  EXPECT_EQ(parse_duration("90m"), 5400.0);
  EXPECT_EQ(parse_duration("45s"), 45.0);
  EXPECT_EQ(parse_duration("2d"), 172800.0);
  EXPECT_EQ(parse_duration("1.5h"), 5400.0);
  EXPECT_EQ(parse_duration("1d2h3m4.5s"), 93784.5);
  EXPECT_EQ(parse_duration(" 2 h 07 min "), 7620.0);
  EXPECT_EQ(parse_duration("1:30:00"), 5400.0);
  EXPECT_EQ(parse_duration("100:00:01"), 360001.0);
  EXPECT_EQ(parse_duration("1-12:00:59"), 129659.0);
  EXPECT_EQ(parse_duration("5400"), 5400.0);
  EXPECT_EQ(parse_duration("0.25"), 0.25);
  EXPECT_EQ(parse_duration("0h1s"), 1.0);
}

TEST(Durations, WhatCanBeReadTwoWaysOrNoneIsRefused) {
  for (const char* text :
       {"",      " ",        "h",     "1:30",   "1:2:3",    "1:60:00",    "1:00:60",    "1::00",      ":30:00", "1:00:",
        "1x",    "1h2h",     "30m1h", "1m2min", "1h30",     "30s 5",      "-1h",        "-5",         "+5",     "1h-5m",
        "inf",   "nan",      "0",     "0s",     "0:00:00",  "1-24:00:00", "1-1:00:00",  "-1:00:00",   "1-",     "1e3",
        "1..5h", "1h 1:0:0", "1,5h",  "1 week", "1:30:00x", "1.5:00:00",  "1:30:00:00", "+1-00:00:01"}) {
    EXPECT_EQ(parse_duration(text), std::nullopt) << "\"" << text << '"';
  }
  EXPECT_EQ(parse_duration("9" + std::string(400, '9') + "s"), std::nullopt);
}

TEST(PlainText, WhatCommandsATerminalIsShownInstead) {
  EXPECT_EQ(plain_lines("a\x1b[2J\x7f\tb"), "a\\x1b[2J\\x7f\\tb");
  EXPECT_EQ(plain_lines("one\ntwo"), "one\ntwo");
  EXPECT_EQ(one_line("one\ntwo"), "one\\ntwo");
  EXPECT_EQ(plain_lines("\xff\xc0\xaf"), "\\xff\\xc0\\xaf");
  EXPECT_EQ(plain_lines("\xc2\x9b"
                        "31m"),
            "\\u{009b}31m");  // CSI in one character
  EXPECT_EQ(plain_lines("\xe2\x80\xae"
                        "abc"),
            "\\u{202e}abc");  // right to left from here
  EXPECT_EQ(plain_lines("Gr\xc3\xb6\xc3\x9f"
                        "e \xf0\x9f\x98\x80"),
            "Gr\xc3\xb6\xc3\x9f"
            "e \xf0\x9f\x98\x80");
}

TEST(PlainText, LongLinesAreCutBetweenCharacters) {
  std::string umlauts;
  for (int i = 0; i < 5000; ++i) {
    umlauts += "\xc3\xbc";
  }
  for (const std::string before : {"", "x"}) {
    const auto cut = plain_lines(before + umlauts + "\nshort");
    EXPECT_EQ(find_invalid_utf8(cut), std::string_view::npos);
    EXPECT_EQ(cut.find("\\x"), std::string::npos) << cut;
    EXPECT_LT(cut.size(), 1600u);
    EXPECT_NE(cut.find("bytes left out"), std::string::npos);
    EXPECT_TRUE(cut.ends_with("\nshort"));
  }
  EXPECT_EQ(plain_lines(std::string(1500, 'a')), std::string(1500, 'a'));
}

TEST(PlainText, AnErrorsMessageIsPlain) {
  EXPECT_STREQ(DataError("name \"{}\"\nsecond", "\x1b]0;x\x07").what(), "name \"\\x1b]0;x\\x07\"\nsecond");
}

}  // namespace
}  // namespace phi3tune
