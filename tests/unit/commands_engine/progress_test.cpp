#include "commands/engine/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "commands/engine/progress_bar.h"
#include "commands/engine/run_log.h"
#include "phi3tune/io/json.h"
#include "support/temp_folder.h"

namespace phi3tune {
namespace {

using commands::JsonProgress;
using commands::PlainProgress;
using commands::ProgressBar;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

train::StepMetrics step(int64_t number, double loss) {
  train::StepMetrics metrics;
  metrics.step = number;
  metrics.epoch = 0.1 * static_cast<double>(number);
  metrics.loss = loss;
  metrics.grad_norm = 0.1 + 0.2;  // 17 digits
  metrics.learning_rate = 2e-4;
  metrics.trained_tokens = 30;
  metrics.tokens = 50;
  metrics.seconds = 2.0;
  metrics.tokens_per_second = 25.0;
  metrics.memory_bytes = uint64_t{3} << 30;
  return metrics;
}

train::EvalMetrics evaluation(int64_t at, double loss) {
  train::EvalMetrics metrics;
  metrics.name = "validation";
  metrics.step = at;
  metrics.eval_loss = loss;
  metrics.eval_tokens = 77;
  metrics.token_accuracy = 0.5;
  return metrics;
}

// A run of seven steps with losses 1 to 7 and an evaluation behind the third.
void play(train::TrainObserver& observer) {
  train::RunPlan plan;
  plan.max_steps = 7;
  plan.parameters = 99;
  observer.on_start(plan);
  for (int64_t number = 1; number <= 7; ++number) {
    observer.on_micro_batch(number, 1, 1);
    observer.on_step(step(number, static_cast<double>(number)));
    if (number == 3) {
      observer.on_evaluation_batch("validation", 1, 1);
      observer.on_evaluation(evaluation(3, 2.5));
    }
  }
  train::TrainResult result;
  result.steps = 7;
  observer.on_finish(result);
}

std::vector<io::Json> parsed(const std::vector<std::string>& lines) {
  std::vector<io::Json> values;
  for (const std::string& line : lines) {
    io::JsonFault fault;
    values.emplace_back();
    EXPECT_TRUE(io::parse_json(line, values.back(), fault)) << line;
  }
  return values;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

TEST(RunLog, HoldsEveryStepAndEvaluationWithFullPrecision) {
  const test::TempFolder folder;
  commands::RunLog log(folder / "metrics.jsonl");
  play(log);
  const auto lines = parsed(lines_of(test::read_all(folder / "metrics.jsonl")));
  ASSERT_EQ(lines.size(), 8U);
  EXPECT_EQ(lines[0]["grad_norm"].get<double>(), 0.1 + 0.2);
  EXPECT_EQ(lines[0]["learning_rate"].get<double>(), 2e-4);
  EXPECT_EQ(lines[0]["trained_tokens"], 30);
  EXPECT_EQ(lines[0]["memory_bytes"], uint64_t{3} << 30);
  for (const char* key : {"step", "epoch", "loss", "tokens_per_second"}) {
    EXPECT_TRUE(lines[6].contains(key)) << key;
  }
  EXPECT_EQ(lines[3]["step"], 3);
  EXPECT_EQ(lines[3]["eval_loss"], 2.5);
  EXPECT_EQ(lines[3]["eval_tokens"], 77);
  EXPECT_EQ(lines[3]["set"], "validation");
  EXPECT_FALSE(lines[3].contains("loss"));
}

TEST(PlainProgress, ShowsFirstLastAndEveryNthStepWithTheMeanLossSince) {
  std::vector<std::string> lines;
  PlainProgress progress(3, [&](std::string_view line) { lines.emplace_back(line); });
  play(progress);
  ASSERT_EQ(lines.size(), 7U);
  EXPECT_THAT(lines[1], AllOf(HasSubstr("step 1/7"), HasSubstr("loss 1.0000"), HasSubstr("12 s left")));
  EXPECT_THAT(lines[2], AllOf(HasSubstr("step 3/7"), HasSubstr("loss 2.5000"), HasSubstr("3.0 GiB")));  // 2, 3
  EXPECT_THAT(lines[3], AllOf(HasSubstr("validation loss 2.5"), HasSubstr("50.0 %")));
  EXPECT_THAT(lines[4], AllOf(HasSubstr("step 6/7"), HasSubstr("loss 5.0000")));  // 4, 5, 6
  EXPECT_THAT(lines[5], AllOf(HasSubstr("step 7/7"), HasSubstr("loss 7.0000"), HasSubstr("0 s left")));
  EXPECT_THAT(lines[6], HasSubstr("trained after 7 steps"));
}

TEST(JsonProgress, GivesOneEventALine) {
  std::vector<std::string> lines;
  JsonProgress progress(3, [&](std::string_view line) { lines.emplace_back(line); });
  play(progress);
  std::vector<std::string> events;
  for (const io::Json& value : parsed(lines)) {
    events.push_back(value["event"]);
  }
  EXPECT_THAT(events, ElementsAre("start", "step", "step", "evaluation", "step", "step", "end"));
  EXPECT_EQ(parsed(lines)[2]["mean_loss"], 2.5);
  EXPECT_EQ(parsed(lines)[2]["loss"], 3.0);
  EXPECT_THAT(lines, testing::Each(Not(HasSubstr("\n"))));
}

TEST(ProgressBar, NeverIsWiderThanTheTerminalAndKeepsEvaluations) {
  for (const int columns : {20, 40, 200}) {
    std::string screen;
    {
      ProgressBar bar(
          3, [columns] { return columns; }, [&](std::string_view text) { screen += text; });
      play(bar);
    }
    // What follows a clearing and does not end in a newline is the bar.
    size_t bars = 0;
    const std::string clear = "\r\x1b[K";
    for (size_t at = screen.find(clear); at != std::string::npos; at = screen.find(clear, at + 1)) {
      const size_t begin = at + clear.size();
      const std::string text = screen.substr(begin, screen.find(clear, begin) - begin);
      if (text.find('\n') == std::string::npos && !text.empty()) {
        EXPECT_LT(static_cast<int>(text.size()), columns);
        ++bars;
      }
    }
    EXPECT_GE(bars, 4U);
    EXPECT_THAT(screen, HasSubstr("validation loss 2.5"));
    EXPECT_THAT(screen, HasSubstr("trained after 7 steps"));
  }
}

TEST(Progress, KindFollowsSettingAndTerminal) {
  config::OutputOptions options;
  const auto is = [&](commands::ProgressSinks sinks, auto* kind) {
    const auto made = commands::make_progress(options, sinks);
    return dynamic_cast<decltype(kind)>(made.get()) != nullptr;
  };
  EXPECT_TRUE(is({true, false}, static_cast<ProgressBar*>(nullptr)));
  EXPECT_TRUE(is({false, false}, static_cast<PlainProgress*>(nullptr)));
  EXPECT_TRUE(is({true, true}, static_cast<JsonProgress*>(nullptr)));
  options.progress = config::OutputOptions::Progress::kPlain;
  EXPECT_TRUE(is({true, true}, static_cast<PlainProgress*>(nullptr)));
}

TEST(Progress, DurationsReadAsPeopleSayThem) {
  EXPECT_EQ(commands::duration_text(-1), "0 s");
  EXPECT_EQ(commands::duration_text(59.4), "59 s");
  EXPECT_EQ(commands::duration_text(59.6), "1 min 00 s");
  EXPECT_EQ(commands::duration_text(185), "3 min 05 s");
  EXPECT_EQ(commands::duration_text(7625), "2 h 07 min");
}

}  // namespace
}  // namespace phi3tune
