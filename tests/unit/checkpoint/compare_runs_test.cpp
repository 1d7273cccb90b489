#include "phi3tune/checkpoint/compare_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace phi3tune::checkpoint {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

RunRecord some_run() {
  RunRecord run;
  run.settings = {{"base_model", "\"models/phi\""}, {"learning_rate", "0.0002"},
                  {"micro_batch_size", "2"},        {"max_steps", "100"},
                  {"logging_steps", "10"},          {"eval_steps", "20.0"}};
  run.hashes = {{"base", "aa"}, {"data", "bb"}, {"tokenizer", "cc"}, {"template", "dd"}, {"program", "ee"}};
  run.versions = {{"libtorch", "2.11.0"}};
  run.compute = {{"device", "cpu"}, {"threads", "2"}, {"dtype", "float32"}, {"cpu_capability", "AVX512"}};
  return run;
}

void set(Facts& facts, const std::string& name, const std::string& text) {
  for (auto& [key, value] : facts) {
    if (key == name) {
      value = text;
      return;
    }
  }
  facts.emplace_back(name, text);
}

TEST(CompareRuns, TheSameRunDiffersInNothing) {
  const auto differences = compare_runs(some_run(), some_run(), 50);
  EXPECT_THAT(differences.refused, IsEmpty());
  EXPECT_THAT(differences.allowed, IsEmpty());
  EXPECT_THAT(differences.inexact, IsEmpty());
}

TEST(CompareRuns, WhatTheResultDependsOnIsRefusedWithBothValues) {
  auto now = some_run();
  set(now.settings, "learning_rate", "0.0001");
  set(now.settings, "eval_steps", "10.0");
  set(now.settings, "weight_decay", "0.1");  // not given then
  EXPECT_THAT(compare_runs(some_run(), now, 50).refused,
              UnorderedElementsAre("learning_rate: 0.0002 then, 0.0001 now", "eval_steps: 20.0 then, 10.0 now",
                                   "weight_decay: not given then, 0.1 now"));
}

TEST(CompareRuns, OtherContentsAreRefusedAndOtherPathsAreNot) {
  for (const char* name : {"base", "data", "tokenizer", "template", "adapter_from"}) {
    auto now = some_run();
    set(now.hashes, name, "other");
    EXPECT_THAT(compare_runs(some_run(), now, 50).refused, ElementsAre(HasSubstr("other now"))) << name;
  }
  auto moved = some_run();
  set(moved.settings, "base_model", "\"/elsewhere/phi\"");
  EXPECT_THAT(compare_runs(some_run(), moved, 50).refused, IsEmpty());
  EXPECT_THAT(compare_runs(some_run(), moved, 50).allowed, ElementsAre(HasSubstr("/elsewhere/phi")));
}

TEST(CompareRuns, MoreStepsAndOtherLoggingAreAllowed) {
  auto now = some_run();
  set(now.settings, "max_steps", "200");
  set(now.settings, "logging_steps", "1");
  EXPECT_THAT(compare_runs(some_run(), now, 50).allowed,
              UnorderedElementsAre("max_steps: 100 then, 200 now", "logging_steps: 10 then, 1 now"));
  set(now.settings, "max_steps", "40");
  EXPECT_THAT(compare_runs(some_run(), now, 50).refused,
              ElementsAre("max_steps: 40 now, and the checkpoint is of step 50"));
}

TEST(CompareRuns, WhatWasLeftToTheProgramIsComparedAsItWasAskedFor) {
  auto then = some_run();
  then.requested = {{"micro_batch_size", "\"auto\""}};
  auto now = some_run();
  set(now.settings, "micro_batch_size", "\"auto\"");
  EXPECT_THAT(compare_runs(then, now, 50).refused, IsEmpty());
  set(now.settings, "micro_batch_size", "4");
  EXPECT_THAT(compare_runs(then, now, 50).refused, ElementsAre("micro_batch_size: \"auto\" then, 4 now"));
}

TEST(CompareRuns, AnotherMachineOrBuildIsNamedAsInexact) {
  auto now = some_run();
  set(now.compute, "threads", "4");
  set(now.compute, "cpu_capability", "AVX2");
  set(now.compute, "device", "cuda:0");
  set(now.versions, "libtorch", "2.11.1");
  set(now.hashes, "program", "ff");
  const auto differences = compare_runs(some_run(), now, 50);
  EXPECT_THAT(differences.refused, IsEmpty());
  EXPECT_THAT(differences.inexact,
              UnorderedElementsAre("threads: 2 then, 4 now", "cpu_capability: AVX512 then, AVX2 now",
                                   "device: cpu then, cuda:0 now", "libtorch: 2.11.0 then, 2.11.1 now",
                                   HasSubstr("another build")));
}

}  // namespace
}  // namespace phi3tune::checkpoint
