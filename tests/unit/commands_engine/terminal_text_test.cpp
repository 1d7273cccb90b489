#include "commands/engine/terminal_text.h"

#include <gtest/gtest.h>

namespace phi3tune::commands {
namespace {

TEST(Wrapped, LinesBreakAtBlanksAndLoseNothing) {
  EXPECT_EQ(wrapped("one two three four five six", 20), "one two three four\nfive six");
  EXPECT_EQ(wrapped("aaaaaaaaa bbbbbbbbbb c", 20), "aaaaaaaaa bbbbbbbbbb\nc");  // a blank just behind the last column
  EXPECT_EQ(wrapped("aaaaaaaaa bbbbbbbbbb", 20), "aaaaaaaaa bbbbbbbbbb");
  EXPECT_EQ(wrapped("", 20), "");
}

TEST(Wrapped, AWordLongerThanALineIsBroken) {
  EXPECT_EQ(wrapped("aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbccccc", 20),
            "aaaaaaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbbbbbbb\nccccc");
}

TEST(Wrapped, CharactersAreCountedNotBytes) {
  EXPECT_EQ(wrapped("\u00e9\u00e9\u00e9\u00e9\u00e9aaaaaaaaaaaaaaa", 20),
            "\u00e9\u00e9\u00e9\u00e9\u00e9aaaaaaaaaaaaaaa");
  EXPECT_EQ(wrapped("\u00e9\u00e9\u00e9\u00e9\u00e9aaaaaaaaaaaaaaab", 20),
            "\u00e9\u00e9\u00e9\u00e9\u00e9aaaaaaaaaaaaaaa\nb");
}

TEST(Wrapped, LaterLinesAreIndented) {
  EXPECT_EQ(wrapped("one two three four five six", 24, 4), "one two three four\n    five six");
}

TEST(Wrapped, AFileHasNoColumns) {
  const std::string text(500, 'a');
  EXPECT_EQ(wrapped(text, kNoColumns), text);
}

}  // namespace
}  // namespace phi3tune::commands
