#include "phi3tune/plan/run_shape.h"

#include <gtest/gtest.h>

#include "phi3tune/core/error.h"
#include "phi3tune/phi3/adapter_options.h"
#include "shapes.h"

namespace phi3tune::plan {
namespace {

config::RunOptions options() {
  config::RunOptions run;
  run.data.sequence_len = 1000;
  run.schedule.micro_batch_size = 3;
  run.schedule.gradient_accumulation_steps = 5;
  run.output.logging_steps = 7;
  return run;
}

RunShape shape_of(const config::RunOptions& run, const phi3::ModelConfig& model, const RowFacts& rows,
                  bool gpu = true) {
  return run_shape(run, model, phi3::adapter_config_for(run.lora, model, "base"), rows, {.gpu = gpu});
}

TEST(RunShape, RowsOfAPassAreItsTokensAndDocuments) {
  const auto run = options();
  RowFacts rows = RowFacts::assumed(run);
  rows.documents = 9;
  const auto shape = shape_of(run, mini(), rows);
  EXPECT_EQ(shape.step.tokens, 3000);
  EXPECT_EQ(shape.step.trained_rows, 2997);  // a document's last token predicts nothing
  EXPECT_EQ(shape.step.documents, 27);
  EXPECT_EQ(shape.step.head_chunk, 1024);
  EXPECT_EQ(shape.micro_batches, 5);
  EXPECT_EQ(shape.evaluation.tokens, 0);  // no validation data
  EXPECT_EQ(shape.parameters, 25165824);
  rows.trained = 100;
  EXPECT_EQ(shape_of(run, mini(), rows).step.trained_rows, 300);
}

TEST(RunShape, EvaluationTakesItsOwnRowsOrThoseOfTraining) {
  auto run = options();
  run.data.val_set_size = 0.1;
  EXPECT_EQ(shape_of(run, mini(), RowFacts::assumed(run)).evaluation.tokens, 3000);
  run.schedule.eval_batch_size = 8;
  auto shape = shape_of(run, mini(), RowFacts::assumed(run));
  EXPECT_EQ(shape.evaluation.tokens, 8000);
  EXPECT_EQ(shape.step.tokens, 3000);
  shape = with_micro_batch(shape, RowFacts::assumed(run), 1, 15);
  EXPECT_EQ(shape.step.tokens, 1000);
  EXPECT_EQ(shape.evaluation.tokens, 8000);
  EXPECT_EQ(shape.micro_batches, 15);
}

TEST(RunShape, TheMicroBatchThatWasChosenIsWrittenIntoTheSettings) {
  auto run = options();
  run.schedule.micro_batch_size = 0;
  run.schedule.gradient_accumulation_steps = 12;
  run.resolved = {{"seed", "1"}, {"micro_batch_size", "\"auto\""}, {"gradient_accumulation_steps", "12"}};
  const auto rows = RowFacts::assumed(run);
  write_micro_batch(with_micro_batch(shape_of(run, mini(), rows), rows, 4, 3), rows, run);
  EXPECT_EQ(run.schedule.micro_batch_size, 4);
  EXPECT_EQ(run.schedule.gradient_accumulation_steps, 3);
  EXPECT_EQ(run.resolved, (std::vector<std::pair<std::string, std::string>>{
                              {"seed", "1"}, {"micro_batch_size", "4"}, {"gradient_accumulation_steps", "3"}}));
}

TEST(RunShape, RanksArePatternsAndTargetsOfEachLayer) {
  auto run = options();
  run.lora.target_modules = {"qkv_proj", "down_proj"};
  run.lora.rank_pattern = {{"layers.3.mlp.down_proj", 64}};
  const auto shape = shape_of(run, mini(), RowFacts::assumed(run));
  EXPECT_EQ(shape.step.ranks[0], (std::array<int64_t, 4>{16, 0, 0, 16}));
  EXPECT_EQ(shape.step.ranks[3], (std::array<int64_t, 4>{16, 0, 0, 64}));
  EXPECT_EQ(shape.parameters, 32 * 16 * (3072 + 9216) + (31 * 16 + 64) * (8192 + 3072));
}

TEST(RunShape, DoraTrainsAMagnitudeForEveryOutputAndOnTheCpuAlone) {
  auto run = options();
  run.lora.use_dora = true;
  run.lora.target_modules = {"qkv_proj", "down_proj"};
  const auto shape = shape_of(run, mini(), RowFacts::assumed(run), false);
  EXPECT_EQ(shape.step.magnitudes, 32 * (9216 + 3072));
  EXPECT_EQ(shape.parameters, 32 * 16 * (3072 + 9216 + 8192 + 3072) + 32 * (9216 + 3072));
  // The largest product is qkv's: gate_up is not adapted.
  auto without = shape.step;
  without.magnitudes = 0;
  const auto bytes = [&](const StepShape& step) { return declare_step_buffers(mini(), step, Purpose::kTrain).bytes; };
  EXPECT_EQ(bytes(shape.step) - bytes(without), static_cast<size_t>(3000 * 9216 * 2));
  // Norms and factors in float32, squares in float64.
  EXPECT_EQ(declare_adapter(shape.parameters, shape.step).bytes - declare_adapter(shape.parameters, without).bytes,
            static_cast<size_t>(shape.step.magnitudes * 16));
  EXPECT_THROW(shape_of(run, mini(), RowFacts::assumed(run), true), ConfigError);
}

TEST(RunShape, WhatPissaTakesAPartOfIsHeld) {
  auto run = options();
  run.lora.target_modules = {"o_proj"};
  const auto plain = shape_of(run, mini(), RowFacts::assumed(run), false);
  run.lora.init = config::LoraOptions::Init::kPissa;
  const auto shape = shape_of(run, mini(), RowFacts::assumed(run), false);
  const auto before = host_weights(mini(), plain.weights, 2);
  const auto after = host_weights(mini(), shape.weights, 2);
  const size_t moved = size_t{32} * 3072 * 3072 * 2;
  EXPECT_EQ(before.mapped - after.mapped, moved);
  EXPECT_EQ(after.held - before.held, moved);
  run.lora.init_adapter = "an adapter to go on from";
  EXPECT_EQ(host_weights(mini(), shape_of(run, mini(), RowFacts::assumed(run), false).weights, 2).mapped,
            before.mapped);
}

TEST(RunShape, FourBitsAreAskedForOrAlreadyThere) {
  auto run = options();
  auto model = mini();
  EXPECT_FALSE(shape_of(run, model, RowFacts::assumed(run)).weights.quantize);
  run.method = config::AdapterMethod::kQlora;
  EXPECT_TRUE(shape_of(run, model, RowFacts::assumed(run)).weights.double_quant);
  run.method = config::AdapterMethod::kLora;
  model.quantization = phi3::QuantizationConfig{"nf4", false, "bfloat16"};
  const auto shape = shape_of(run, model, RowFacts::assumed(run));
  EXPECT_TRUE(shape.weights.quantize);
  EXPECT_FALSE(shape.weights.double_quant);
}

TEST(RunShape, WeightsLieInTheArenaOfAGpuAlone) {
  const auto run = options();
  const auto rows = RowFacts::assumed(run);
  EXPECT_TRUE(shape_of(run, mini(), rows, true).weights.in_arena);
  EXPECT_TRUE(shape_of(run, mini(), rows, true).step.extended);
  EXPECT_FALSE(shape_of(run, mini(), rows, false).weights.in_arena);
  EXPECT_FALSE(shape_of(run, mini(), rows, false).step.extended);
  // What a step came to is read every logging_steps on a GPU, at once on the CPU.
  EXPECT_EQ(shape_of(run, mini(), rows, true).ring_steps, 7);
  EXPECT_EQ(shape_of(run, mini(), rows, false).ring_steps, 1);
}

TEST(HostWeights, AreMappedWhereTheFileHoldsWhatIsComputedIn) {
  constexpr size_t kHead = size_t{2} * 32064 * 3072 + 65 * 3072;
  constexpr size_t kLinears = size_t{32} * 113246208;
  auto model = mini();
  model.torch_dtype = "bfloat16";
  auto bytes = host_weights(model, {}, 2);
  EXPECT_EQ(bytes.mapped, 2 * (kHead + kLinears));
  EXPECT_EQ(bytes.held, 0U);
  bytes = host_weights(model, {}, 4);
  EXPECT_EQ(bytes.mapped, 0U);
  EXPECT_EQ(bytes.held, 4 * (kHead + kLinears));
  model.torch_dtype = "float16";
  EXPECT_EQ(host_weights(model, {}, 2).mapped, 0U);
  model.torch_dtype = "bfloat16";
  bytes = host_weights(model, {.quantize = true}, 2);
  EXPECT_EQ(bytes.mapped, 2 * kHead);
  // 4 bits, and a byte a block of 64, and four a block of 256 of these; code tables and alignment come on top.
  const double packed = static_cast<double>(kLinears) * (0.5 + 1.0 / 64 + 4.0 / (64 * 256));
  EXPECT_NEAR(static_cast<double>(bytes.held), packed, 2e-4 * packed);
  EXPECT_GE(static_cast<double>(bytes.held), packed);
  model.tie_word_embeddings = true;
  EXPECT_EQ(host_weights(model, {.quantize = true}, 2).mapped, 2 * (kHead - size_t{32064} * 3072));
}

}  // namespace
}  // namespace phi3tune::plan
