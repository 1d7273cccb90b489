// What a run takes of its arena, through the CUDA back end, is what was planned: in every part, to the byte.
#include "fixture.h"
#include "phi3tune/plan/run_shape.h"
#include "phi3tune/train/learner.h"
#include "phi3tune/train/trainer.h"
#include "unit/model/reference.h"
#include "unit/train/toy_run.h"

namespace phi3tune::cuda::test {
namespace {

using config::SavedActivations;

class ArenaOnDevice : public OnDevice {};

// Rows of one length, so that every micro-batch is the largest.
data::Dataset rows_of(int64_t count, int64_t length) {
  data::Dataset dataset = toy_dataset(count);
  for (auto& example : dataset.train) {
    example.input_ids.resize(static_cast<size_t>(length), 3);
    example.labels = example.input_ids;
    example.weights.clear();
  }
  return dataset;
}

TEST_F(ArenaOnDevice, IsUsedToTheByteInTwelveConfigurations) {
  const TempFolder folder;
  constexpr int64_t kLength = 9;
  const data::Dataset dataset = rows_of(4, kLength);
  int configurations = 0;
  for (const bool quantize : {false, true}) {
    for (const auto saved : {SavedActivations::kNone, SavedActivations::kGateUp, SavedActivations::kAttention,
                             SavedActivations::kBlock, SavedActivations::kOffload, SavedActivations::kNone}) {
      SCOPED_TRACE(std::string(quantize ? "qlora " : "lora ") + plan::policy_name(saved));
      model::Phi3Options options;
      options.compute_dtype = at::kBFloat16;
      options.quantize = quantize;
      options.saved = {saved};
      options.head_chunk = 16;
      options.dropout = configurations % 6 == 5 ? 0.1 : 0.0;
      ++configurations;
      // Opened once to learn the shape; the ranks are those of make_deep_setup.
      auto probe = make_deep_setup(folder / "model", 3, options);
      options.ranks = model::ranks_of(probe.folder->config(), probe.adapters->config());
      auto run = toy_options(1, 2);
      run.schedule.max_steps = 2;
      run.logging_steps = 2;

      plan::RunShape shape;
      shape.weights = model::weight_shape(options, *probe.folder);
      shape.step = model::step_shape(model::step_shape(options, probe.folder->config()), kLength, kLength - 1, 1);
      shape.evaluation = shape.step;
      shape.parameters = model::parameters_of(probe.folder->config(), options.ranks);
      shape.micro_batches = 2;
      shape.ring_steps = 2;
      shape.evaluation_batches = 4;
      const auto planned = plan::plan_run(probe.folder->config(), shape);

      auto arena = std::make_shared<model::Arena>(planned);
      model::LoraAdapters adapters(probe.folder->config(), probe.adapters->config(), at::kBFloat16, 1, false, arena);
      auto network = model::Phi3Model::load(*probe.folder, options, arena);
      train::AdapterLearner learner(network, adapters);
      Recorder recorder;
      run.eval.eval_on_start = true;
      train::Trainer trainer(learner, dataset, {{"validation", dataset.train, &dataset}}, run, recorder);
      trainer.run();
      EXPECT_EQ(recorder.steps.size(), 2U);
      for (size_t part = 0; part < plan::kParts; ++part) {
        EXPECT_EQ(arena->high_water(static_cast<plan::Part>(part)), planned.bytes[part])
            << plan::part_name(static_cast<plan::Part>(part));
      }
      EXPECT_EQ(arena->high_water(), planned.total());
    }
  }
  EXPECT_EQ(configurations, 12);
}

}  // namespace
}  // namespace phi3tune::cuda::test
