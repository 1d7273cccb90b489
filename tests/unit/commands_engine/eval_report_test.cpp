#include "commands/engine/eval_report.h"

#include <gmock/gmock.h>

#include "commands/engine/eval_page.h"

namespace phi3tune::commands {
namespace {

using config::EvalMetric;
using testing::HasSubstr;
using testing::Not;

EvalRow row(double base_loss, double adapter_loss, double weight) {
  EvalRow one;
  one.place = "rows.jsonl:1";
  one.weight = weight;
  one.targets = static_cast<int64_t>(weight);
  one.sides[kBase].weighted_loss = base_loss * weight;
  one.sides[kAdapter].weighted_loss = adapter_loss * weight;
  return one;
}

EvalSet set_of(std::vector<EvalRow> rows) {
  EvalSet set;
  set.name = "domain";
  set.rows = std::move(rows);
  return set;
}

TEST(EvalScores, ALossIsWeightedByItsTokens) {
  const auto scores = score_set(set_of({row(1.0, 0.5, 1), row(3.0, 2.0, 3)}), {EvalMetric::kLoss}, 1);
  ASSERT_EQ(scores.scores.size(), 1U);
  EXPECT_DOUBLE_EQ(scores.scores[0].sides[kBase].value, 2.5);
  EXPECT_DOUBLE_EQ(scores.scores[0].sides[kAdapter].value, 1.625);
  EXPECT_DOUBLE_EQ(scores.scores[0].difference.value, -0.875);
}

TEST(EvalScores, ADifferenceOfTheSameRowsIsCertainWhereTheScoresAreNot) {
  std::vector<EvalRow> rows;
  for (size_t i = 0; i < kFewestRows; ++i) {
    rows.push_back(row(static_cast<double>(i), static_cast<double>(i) - 0.25, 4));
  }
  const auto score = score_set(set_of(rows), {EvalMetric::kLoss}, 1).scores.at(0);
  EXPECT_GT(score.sides[kBase].high - score.sides[kBase].low, 1.0);
  EXPECT_NEAR(score.difference.low, -0.25, 1e-12);
  EXPECT_NEAR(score.difference.high, -0.25, 1e-12);
  EXPECT_EQ(verdict_of(score), 1);  // a smaller loss
  rows.pop_back();
  const auto few = score_set(set_of(rows), {EvalMetric::kLoss}, 1).scores.at(0);
  EXPECT_LT(few.difference.high, 0.0);
  EXPECT_EQ(verdict_of(few), 0);
  EXPECT_STREQ(verdict_text(few), "too few rows");
}

TEST(EvalScores, MoreOfAShareIsBetterAndAnIntervalAroundZeroIsNeither) {
  EvalScore score;
  score.metric = EvalMetric::kF1;
  score.rows = kFewestRows;
  score.difference = {0.1, 0.05, 0.2};
  EXPECT_EQ(verdict_of(score), 1);
  score.difference = {-0.1, -0.2, -0.05};
  EXPECT_EQ(verdict_of(score), -1);
  score.difference = {0.1, -0.01, 0.2};
  EXPECT_EQ(verdict_of(score), 0);
}

TEST(EvalReport, SharesAreShownInPercentAndZeroHasNoSign) {
  EXPECT_EQ(score_text(EvalMetric::kF1, 0.4126), "41.3");
  EXPECT_EQ(score_text(EvalMetric::kBleu, 41.26), "41.3");
  EXPECT_EQ(score_text(EvalMetric::kLoss, -0.00004), "0.000");
  EXPECT_EQ(score_text(EvalMetric::kF1, 0.05, true), "+5.0");
  EXPECT_EQ(score_text(EvalMetric::kPerplexity, 54321.0), "5.43e+04");
}

Evaluation measured() {
  Evaluation evaluation;
  evaluation.metrics = {EvalMetric::kLoss};
  evaluation.sets.push_back(set_of({row(2.0, 1.0, 1), row(3.0, 3.5, 1)}));
  evaluation.scores.push_back(score_set(evaluation.sets[0], evaluation.metrics, 1));
  evaluation.scores[0].scores[0].sides[kBase] = {2.5, 1.25, 3.75};
  evaluation.scores[0].scores[0].difference = {-0.25, -1.0, 0.5};
  evaluation.scores[0].scores[0].rows = kFewestRows;
  return evaluation;
}

TEST(EvalReport, ANarrowTableKeepsTheIntervalOfTheDifference) {
  const auto wide = score_tables(measured());
  EXPECT_THAT(wide, HasSubstr("2.500 [1.250, 3.750]"));
  EXPECT_THAT(wide, HasSubstr("-0.250 [-1.000, +0.500]"));
  EXPECT_THAT(wide, HasSubstr("| no clear difference |"));
  EXPECT_EQ(score_tables(measured(), 120).substr(0, 300), wide.substr(0, 300));
  const auto narrow = score_tables(measured(), 72);
  EXPECT_THAT(narrow, HasSubstr("| 2.500 |"));
  EXPECT_THAT(narrow, HasSubstr("-0.250 [-1.000, +0.500]"));
  EXPECT_THAT(narrow, HasSubstr("| not clear |"));
  for (size_t at = 0; at < narrow.size(); at = narrow.find('\n', at) + 1) {
    EXPECT_LE(narrow.find('\n', at) - at, 72U) << narrow.substr(at, 100);
  }
}

TEST(EvalReport, AnswersHangBesideTheirNames) {
  auto evaluation = measured();
  auto& one = evaluation.sets[0].rows[0];
  one.answered = true;
  one.question.text = "one two three four five six seven";
  EXPECT_THAT(answers_text(evaluation, 1, 240), HasSubstr("  prompt     one two three four five six seven\n"));
  EXPECT_THAT(answers_text(evaluation, 1, 240, 40),
              HasSubstr("  prompt     one two three four five six\n             seven\n"));
}

TEST(EvalPage, TextOfOthersIsTextThere) {
  Evaluation evaluation;
  evaluation.metrics = {EvalMetric::kF1};
  EvalRow one = row(1.0, 1.0, 1.0);
  one.answered = true;
  one.question.text = "<script>alert(\"1\")</script>";
  one.question.reference = "a & b\x1b[31m";
  one.sides[kAdapter].f1 = 1.0;
  evaluation.sets.push_back(set_of({one}));
  evaluation.scores.push_back(score_set(evaluation.sets[0], evaluation.metrics, 1));
  const auto page = html_report(evaluation);
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;"));
  EXPECT_THAT(page, HasSubstr("a &amp; b&#xFFFD;[31m"));
  EXPECT_THAT(page, HasSubstr("<span class=\"up\">f1 100.0</span>"));
}

TEST(EvalReport, AFenceIsLongerThanThoseInsideIt) {
  Evaluation evaluation;
  EvalRow one = row(1.0, 1.0, 1.0);
  one.answered = true;
  one.question.text = "````\ncode";
  evaluation.sets.push_back(set_of({one}));
  evaluation.scores.push_back(score_set(evaluation.sets[0], {EvalMetric::kLoss}, 1));
  EXPECT_THAT(markdown_report(evaluation), HasSubstr("`````text\n````\ncode\n`````\n"));
}

}  // namespace
}  // namespace phi3tune::commands
