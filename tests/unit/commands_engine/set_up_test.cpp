// What is made smaller when memory runs out, and what counts as that. The rest of set_up runs in tests/cli.
#include "commands/engine/set_up.h"

#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "commands/engine/memory_fault.h"
#include "phi3tune/core/error.h"
#include "phi3tune/data/dataset.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/model_folder.h"

// As oneDNN names its own.
namespace dnnl {
struct error : std::exception {
  const char* what() const noexcept override { return "could not execute a primitive"; }
};
}  // namespace dnnl

namespace phi3tune::commands {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

config::RunOptions with_batches(int64_t micro_batch, int64_t accumulation, int64_t eval_batch = 0) {
  config::RunOptions run;
  run.schedule.micro_batch_size = micro_batch;
  run.schedule.gradient_accumulation_steps = accumulation;
  run.schedule.eval_batch_size = eval_batch;
  run.resolved = {{"seed", "42"},
                  {"micro_batch_size", std::to_string(micro_batch)},
                  {"gradient_accumulation_steps", std::to_string(accumulation)},
                  {"eval_batch_size", std::to_string(eval_batch)}};
  return run;
}

TEST(LessMemory, TheRowsOfAStepStayTheSameDownToOneAPass) {
  for (int64_t rows = 1; rows <= 96; ++rows) {
    auto run = with_batches(rows, 3);
    for (int64_t before = rows; before > 1; before = run.schedule.micro_batch_size) {
      ASSERT_TRUE(halve_micro_batch(run)) << rows;
      ASSERT_LT(run.schedule.micro_batch_size, before);
      ASSERT_EQ(run.schedule.micro_batch_size * run.schedule.gradient_accumulation_steps, 3 * rows);
    }
    EXPECT_EQ(run.schedule.micro_batch_size, 1);
    EXPECT_FALSE(halve_micro_batch(run));
    EXPECT_EQ(run.schedule.gradient_accumulation_steps, 3 * rows);
  }
}

TEST(LessMemory, AnOddMicroBatchGoesToItsLargestDivisor) {
  auto run = with_batches(12, 1);
  std::vector<int64_t> sizes;
  while (halve_micro_batch(run)) {
    sizes.push_back(run.schedule.micro_batch_size);
  }
  EXPECT_THAT(sizes, ElementsAre(6, 3, 1));
  run = with_batches(45, 2);
  ASSERT_TRUE(halve_micro_batch(run));
  EXPECT_EQ(run.schedule.micro_batch_size, 15);
  EXPECT_EQ(run.schedule.gradient_accumulation_steps, 6);
}

TEST(LessMemory, ResolvedTextsFollow) {
  auto run = with_batches(8, 4, 16);
  ASSERT_TRUE(halve_micro_batch(run));
  ASSERT_TRUE(halve_eval_batch(run));
  EXPECT_THAT(run.resolved, ElementsAre(Pair("seed", "42"), Pair("micro_batch_size", "4"),
                                        Pair("gradient_accumulation_steps", "8"), Pair("eval_batch_size", "8")));
}

TEST(LessMemory, AnEvaluationBatchThatFollowsTheMicroBatchIsNotHalvedAlone) {
  auto run = with_batches(8, 4, 0);
  EXPECT_FALSE(halve_eval_batch(run));
  run = with_batches(8, 4, 1);
  EXPECT_FALSE(halve_eval_batch(run));
  run = with_batches(8, 4, 5);
  EXPECT_TRUE(halve_eval_batch(run));
  EXPECT_EQ(run.schedule.eval_batch_size, 2);
  EXPECT_EQ(run.schedule.micro_batch_size, 8);
}

TEST(MemoryFault, IsSeenInWhatLibrariesThrow) {
  EXPECT_EQ(memory_fault(std::bad_alloc()), "memory ran out");
  EXPECT_EQ(memory_fault(ResourceError("the GPU has 1 GiB free")), "the GPU has 1 GiB free");
  EXPECT_EQ(memory_fault(dnnl::error()), "memory ran out (could not execute a primitive)");
  for (const char* text : {"DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12 "
                           "(Cannot allocate memory)",
                           "CUDA out of memory. Tried to allocate 2 GiB",
                           "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"}) {
    const auto found = memory_fault(c10::Error(std::string(text) + "\nframe #0", nullptr));
    ASSERT_TRUE(found) << text;
    EXPECT_EQ(*found, "memory ran out (" + std::string(text) + ")");
  }
}

TEST(MemoryFault, IsNotSeenInOtherFaults) {
  EXPECT_EQ(memory_fault(c10::Error("CUDA error: an illegal memory access was encountered", nullptr)), std::nullopt);
  EXPECT_EQ(memory_fault(InternalError("internal error: out of memory is planned")), std::nullopt);
  EXPECT_EQ(memory_fault(ModelError("x")), std::nullopt);
  EXPECT_EQ(memory_fault(Interrupted("x")), std::nullopt);
  EXPECT_EQ(memory_fault(std::runtime_error("could not execute a primitive")), std::nullopt);
}

// A plan that fills the memory with what the layers keep must not do so again after memory ran out.
TEST(LessMemory, WhatIsLeftToThePlanStaysBelowABound) {
  const std::string references = std::string(PHI3TUNE_SOURCE_DIR) + "/tests/references";
  const auto folder = phi3::ModelFolder::open(references + "/models/gqa");
  const auto adapter = phi3::read_adapter_config(references + "/adapters/gqa");
  data::Dataset dataset;
  dataset.files = {"data.jsonl"};
  for (uint32_t i = 0; i < 8; ++i) {
    data::Example example;
    example.sample_id = i;
    example.source = {0, i + 1};
    example.input_ids.assign(500, 1);
    example.labels.assign(500, 1);
    dataset.train.push_back(std::move(example));
  }
  config::RunOptions run;
  run.compute.device = config::DeviceKind::kCpu;
  run.compute.dtype = config::ComputeDType::kFloat32;
  run.compute.threads = 1;
  run.schedule.micro_batch_size = 4;
  const auto settle = [&](size_t at_most) { return settle_compute(run, folder.config(), adapter, dataset, at_most); };
  const auto free = settle(SIZE_MAX);
  const auto kept = [](const Compute& compute) { return plan::describe_saved(compute.plan.shape.step); };
  EXPECT_EQ(kept(free), "none");
  const size_t bound = free.plan.device_bytes() - 1;
  const auto bounded = settle(bound);
  EXPECT_LE(bounded.plan.device_bytes(), bound);
  EXPECT_NE(kept(bounded), "none");
  // Where nothing is that small, the least is taken.
  EXPECT_EQ(kept(settle(1)), "block");
}

}  // namespace
}  // namespace phi3tune::commands
