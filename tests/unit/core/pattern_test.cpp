#include "phi3tune/core/pattern.h"

#include <gtest/gtest.h>

#include <chrono>

namespace phi3tune {
namespace {

const char* const kPath = "model.layers.11.self_attn.qkv_proj";

TEST(Pattern, MatchesWholeNamesOnly) {
  EXPECT_TRUE(Pattern(R"(.*\.(qkv|o)_proj)").matches_whole(kPath));
  EXPECT_FALSE(Pattern("qkv_proj").matches_whole(kPath));
  EXPECT_FALSE(Pattern("model|layers").matches_whole(kPath));
  EXPECT_TRUE(Pattern(R"(model\.layers\.1\d\..*(?<!down)_proj)").matches_whole(kPath));
}

TEST(Pattern, WhatIsNoPatternIsAFaultWithItsPlace) {
  for (const char* text : {"(", "a)(b", "[", "*"}) {
    EXPECT_THROW(Pattern{text}, PatternFault) << text;
  }
}

TEST(Pattern, AnExplosivePatternEndsSoon) {
  const auto started = std::chrono::steady_clock::now();
  EXPECT_FALSE(Pattern(R"((.*)*x)").matches_whole(kPath));
  EXPECT_THROW(Pattern(R"((\w+\.?)+[!?])").matches_whole(kPath), PatternFault);
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(2));
}

}  // namespace
}  // namespace phi3tune
