#include "phi3tune/train/schedule.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "phi3tune/core/error.h"
#include "phi3tune/io/json.h"
#include "support/temp_folder.h"

namespace phi3tune {
namespace {

using config::Scheduler;

config::ScheduleOptions options_of(const io::Json& line) {
  config::ScheduleOptions options;
  options.learning_rate = line["learning_rate"];
  options.warmup_steps = line["warmup"].get<int64_t>();
  const std::string name = line["name"];
  options.scheduler = name == "constant"               ? Scheduler::kConstant
                      : name == "constant_with_warmup" ? Scheduler::kConstantWithWarmup
                      : name == "linear"               ? Scheduler::kLinear
                                                       : Scheduler::kCosine;
  if (line.contains("min_lr_rate")) {
    options.cosine_min_lr_ratio = line["min_lr_rate"];
  }
  if (line.contains("min_lr")) {
    options.cosine_min_lr_ratio = line["min_lr"].get<double>() / options.learning_rate;
  }
  return options;
}

// transformers' get_scheduler, every rate of 30 runs.
TEST(LearningRateSchedule, GivesTheRatesOfTransformers) {
  std::ifstream file(PHI3TUNE_SOURCE_DIR "/tests/references/schedules.jsonl");
  int lines = 0;
  for (std::string text; std::getline(file, text); ++lines) {
    io::Json line;
    io::JsonFault fault;
    ASSERT_TRUE(io::parse_json(text, line, fault)) << fault.what;
    SCOPED_TRACE(text.substr(0, 120));
    auto options = options_of(line);
    if (options.scheduler == Scheduler::kConstant) {
      options.warmup_steps.reset();  // ignored there, refused here
    }
    const train::LearningRateSchedule schedule(options, line["total"]);
    const io::Json& rates = line["rates"];
    for (size_t update = 0; update < rates.size(); ++update) {
      // The same formula in fp64; the order of products may differ in the last bits.
      EXPECT_NEAR(schedule.rate(static_cast<int64_t>(update)), rates[update].get<double>(), 1e-15 * 2e-4 * 4)
          << "update " << update + 1;
    }
  }
  EXPECT_EQ(lines, 30);
}

TEST(LearningRateSchedule, WarmUpByRatioIsRoundedUp) {
  config::ScheduleOptions options;
  options.warmup_ratio = 0.03;
  EXPECT_EQ(train::warmup_steps(options, 101), 4);  // 3.03
  EXPECT_EQ(train::warmup_steps(options, 1), 1);
  options.warmup_ratio = 0.0;
  EXPECT_EQ(train::warmup_steps(options, 101), 0);
  options.warmup_ratio = 0.5;
  options.warmup_steps = 7;
  EXPECT_EQ(train::warmup_steps(options, 101), 7);
  options.warmup_steps.reset();
  options.scheduler = Scheduler::kConstant;
  EXPECT_EQ(train::warmup_steps(options, 101), 0);
}

TEST(LearningRateSchedule, RefusesSettingsThatItWouldIgnore) {
  config::ScheduleOptions options;
  options.scheduler = Scheduler::kLinear;
  options.cosine_min_lr_ratio = 0.1;
  EXPECT_NE(
      test::message_of<ConfigError>([&] { train::LearningRateSchedule(options, 10); }).find("cosine_min_lr_ratio"),
      std::string::npos);
  options.cosine_min_lr_ratio = 0.0;
  options.scheduler = Scheduler::kConstant;
  options.warmup_steps = 3;
  EXPECT_NE(test::message_of<ConfigError>([&] { train::LearningRateSchedule(options, 10); }).find("warmup_steps"),
            std::string::npos);
}

}  // namespace
}  // namespace phi3tune
