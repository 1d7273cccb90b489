#include "phi3tune/data/batching.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <limits>
#include <random>
#include <set>

#include "chat_support.h"
#include "phi3tune/core/error.h"

namespace phi3tune::data {
namespace {

using config::DataOptions;
using config::ScheduleOptions;
using testing::ElementsAre;

std::vector<Example> examples_of(const std::vector<int64_t>& lengths) {
  std::vector<Example> examples;
  for (const int64_t length : lengths) {
    Example example;
    example.sample_id = 1000 + examples.size();
    for (int64_t t = 0; t < length; ++t) {
      const auto id = static_cast<int32_t>(100 * examples.size() + static_cast<size_t>(t));
      example.input_ids.push_back(id);
      example.labels.push_back(t > 0 && t % 2 == 0 ? id : kIgnoreLabel);
    }
    examples.push_back(std::move(example));
  }
  return examples;
}

TEST(RandomPermutation, IsTorchsRandperm) {
  const auto rows = test::read_jsonl(test::references("data_order.jsonl"));
  ASSERT_EQ(rows.size(), 32U);
  for (const auto& row : rows) {
    EXPECT_EQ(random_permutation(row.at("n"), row.at("seed").get<uint64_t>()),
              row.at("order").get<std::vector<int64_t>>())
        << "n " << row.at("n") << " seed " << row.at("seed");
  }
  EXPECT_TRUE(random_permutation(0, 1).empty());
}

TEST(PackRows, BestFitDecreasingIsTrls) {
  const auto rows = test::read_jsonl(test::references("chat/packing.jsonl"));
  ASSERT_EQ(rows.size(), 6U);
  for (const auto& row : rows) {
    DataOptions options;
    options.sequence_len = row.at("sequence_len");
    EXPECT_EQ(pack_rows(examples_of(row.at("lengths").get<std::vector<int64_t>>()), options),
              row.at("rows").get<std::vector<Row>>());
  }
}

TEST(PackRows, EveryDocumentOnceAndNoRowTooLong) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    DataOptions options;
    options.sequence_len = 1 + static_cast<int64_t>(random() % 60);
    options.packing_strategy =
        round % 2 == 0 ? DataOptions::PackingStrategy::kBestFitDecreasing : DataOptions::PackingStrategy::kSequential;
    std::vector<int64_t> lengths(random() % 80);
    int64_t total = 0;
    for (auto& length : lengths) {
      length = 1 + static_cast<int64_t>(random()) % options.sequence_len;
      total += length;
    }
    const auto examples = examples_of(lengths);
    const auto rows = pack_rows(examples, options);
    std::vector<int64_t> seen;
    int under_half = 0;
    for (const Row& row : rows) {
      int64_t tokens = 0;
      for (const int64_t i : row) {
        tokens += lengths[static_cast<size_t>(i)];
        seen.push_back(i);
      }
      EXPECT_FALSE(row.empty());
      EXPECT_LE(tokens, options.sequence_len);
      under_half += 2 * tokens <= options.sequence_len ? 1 : 0;
    }
    if (round % 2 == 0) {
      EXPECT_LE(under_half, 1) << "two rows at most half full would have been one";
    } else {
      EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end())) << "sequential keeps the order";
    }
    std::sort(seen.begin(), seen.end());
    ASSERT_EQ(seen.size(), lengths.size());
    EXPECT_TRUE(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
  }
}

TEST(PackRows, SequentialClosesARowThatIsFull) {
  DataOptions options;
  options.sequence_len = 10;
  options.packing_strategy = DataOptions::PackingStrategy::kSequential;
  EXPECT_THAT(pack_rows(examples_of({4, 6, 1, 9, 10, 3, 8}), options),
              ElementsAre(Row{0, 1}, Row{2, 3}, Row{4}, Row{5}, Row{6}));
}

TEST(MicroBatch, TargetsArePredictedByTheRowBeforeAndNeverAcrossDocuments) {
  auto examples = examples_of({4, 3, 5});
  examples[1].labels[0] = examples[1].input_ids[0];  // a first token that claims to be trained
  examples[2].weights = {0, 0, 0.5F, 0, 2.0F};
  const std::vector<Row> rows = {{2, 0}, {1}};
  const MicroBatch batch = make_micro_batch(examples, rows);
  EXPECT_THAT(batch.input_ids, ElementsAre(200, 201, 202, 203, 204, 0, 1, 2, 3, 100, 101, 102));
  EXPECT_THAT(batch.cu_seqlens, ElementsAre(0, 5, 9, 12));
  EXPECT_THAT(batch.target_rows, ElementsAre(1, 3, 6, 10));
  EXPECT_THAT(batch.targets, ElementsAre(202, 204, 2, 102));
  EXPECT_THAT(batch.weights, ElementsAre(0.5F, 2.0F, 1.0F, 1.0F));
  EXPECT_THAT(batch.sample_ids, ElementsAre(1002, 1000, 1001));
  EXPECT_THAT(batch.examples, ElementsAre(2, 0, 1));
  EXPECT_DOUBLE_EQ(batch.weight_sum(), 4.5);
}

TEST(PlanSteps, IsTheTrainersArithmetic) {
  const auto rows = test::read_jsonl(test::references("chat/steps.jsonl"));
  ASSERT_EQ(rows.size(), 224U);
  for (const auto& row : rows) {
    ScheduleOptions options;
    options.micro_batch_size = row.at("micro_batch_size");
    options.gradient_accumulation_steps = row.at("gradient_accumulation_steps");
    options.num_epochs = row.at("num_epochs");
    if (!row.at("max_steps").is_null()) {
      options.max_steps = row.at("max_steps").get<int64_t>();
    }
    const StepPlan plan = plan_steps(row.at("rows"), options);
    EXPECT_EQ(plan.batches_per_epoch, row.at("batches_per_epoch").get<int64_t>()) << row;
    EXPECT_EQ(plan.updates_per_epoch, row.at("updates_per_epoch").get<int64_t>()) << row;
    EXPECT_EQ(plan.max_steps, row.at("total_steps").get<int64_t>()) << row;
    EXPECT_EQ(plan.num_epochs, row.at("epochs_looped").get<int64_t>()) << row;
  }
}

TEST(PlanSteps, MoreStepsThanARunMayHaveAreRefused) {
  ScheduleOptions options;
  options.num_epochs = 1e6;
  options.gradient_accumulation_steps = 1;
  options.micro_batch_size = 1;
  EXPECT_EQ(plan_steps(2147, options).max_steps, 2'147'000'000);
  EXPECT_THAT(test::message_of<ConfigError>([&] { plan_steps(int64_t{1} << 40, options); }),
              testing::HasSubstr("num_epochs: 1000000 passes of "));
  options.num_epochs = std::numeric_limits<double>::infinity();
  EXPECT_THROW(plan_steps(1, options), ConfigError);
}

TEST(PlanSteps, TheLargestNumbersDoNotOverflow) {
  ScheduleOptions options;
  options.max_steps = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(plan_steps(1, options).num_epochs, std::numeric_limits<int64_t>::max());
  options.micro_batch_size = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(plan_steps(5, options).batches_per_epoch, 1);
}

std::vector<int64_t> flat(const EpochPlan& plan) {
  std::vector<int64_t> order;
  for (const auto& step : plan) {
    for (const auto& micro : step) {
      order.insert(order.end(), micro.begin(), micro.end());
    }
  }
  return order;
}

TEST(PlanEpoch, OrderIsRandpermOfSeedPlusEpochAndGroupsStayInside) {
  const auto examples = examples_of(std::vector<int64_t>(34, 3));
  const auto rows = single_rows(examples);
  ScheduleOptions schedule;
  schedule.micro_batch_size = 4;
  schedule.gradient_accumulation_steps = 4;
  const auto plan = plan_epoch(rows, examples, 1, schedule, {});
  EXPECT_EQ(flat(plan), random_permutation(34, 43));
  ASSERT_EQ(static_cast<int64_t>(plan.size()), plan_steps(34, schedule).updates_per_epoch);
  EXPECT_EQ(plan[0].size(), 4U);
  EXPECT_EQ(plan[2].size(), 1U) << "9 micro-batches: 4 + 4 + 1";
  EXPECT_EQ(plan[2][0].size(), 2U) << "34 rows: 8 * 4 + 2";
  schedule.data_seed = 7;
  EXPECT_EQ(flat(plan_epoch(rows, examples, 2, schedule, {})), random_permutation(34, 9));
}

TEST(PlanEpoch, WithoutShuffleTheOrderIsTheFiles) {
  const auto examples = examples_of({1, 2, 3, 4, 5});
  DataOptions data;
  data.shuffle = false;
  EXPECT_THAT(flat(plan_epoch(single_rows(examples), examples, 3, {}, data)), ElementsAre(0, 1, 2, 3, 4));
}

TEST(PlanEpoch, GroupByLengthIsTransformers) {
  const auto rows = test::read_jsonl(test::references("chat/length_groups.jsonl"));
  ASSERT_EQ(rows.size(), 10U);
  for (const auto& row : rows) {
    const auto examples = examples_of(row.at("lengths").get<std::vector<int64_t>>());
    ScheduleOptions schedule;
    schedule.micro_batch_size = 1;
    schedule.gradient_accumulation_steps = row.at("batch");
    schedule.seed = row.at("seed");
    DataOptions data;
    data.group_by_length = true;
    EXPECT_EQ(flat(plan_epoch(single_rows(examples), examples, 0, schedule, data)),
              row.at("order").get<std::vector<int64_t>>());
  }
}

}  // namespace
}  // namespace phi3tune::data
