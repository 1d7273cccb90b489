#include "phi3tune/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <bit>
#include <filesystem>
#include <limits>
#include <set>

#include "checkpoint/training_state.h"
#include "phi3tune/core/error.h"
#include "states.h"
#include "support/temp_folder.h"
#include "support/tensors.h"

namespace phi3tune {
namespace {

namespace fs = std::filesystem;
using test::SmallRun;
using test::TempFolder;
using testing::ElementsAre;
using testing::HasSubstr;

std::set<std::string> names_in(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

TEST(Checkpoint, RoundTripGivesTheSameBitsOfParametersAndMoments) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const TempFolder folder;
    const SmallRun run(200, dtype);
    run.save(folder / "checkpoints/step-000200");
    const auto verified = checkpoint::verify_checkpoint(folder / "checkpoints/step-000200/");
    EXPECT_EQ(verified.step, 200);
    auto adapters = test::tiny_adapters(dtype, 5);
    const auto moments = test::moments_of(adapters, 0);
    checkpoint::load_checkpoint(verified, adapters, moments);
    EXPECT_TRUE(test::same_bits(adapters.parameters(), run.adapters.parameters()));
    EXPECT_TRUE(test::same_bits(moments.moment1, run.moments.moment1));
    EXPECT_TRUE(test::same_bits(moments.moment2, run.moments.moment2));
  }
}

TEST(Checkpoint, ComputeCopiesFollowTheLoadedParameters) {
  const TempFolder folder;
  const SmallRun run(1);
  run.save(folder / "step-000001");
  auto adapters = test::tiny_adapters(at::kBFloat16, 5);
  const auto moments = test::moments_of(adapters, 0);
  checkpoint::load_checkpoint(checkpoint::verify_checkpoint(folder / "step-000001"), adapters, moments);
  EXPECT_TRUE(test::same_bits(adapters.compute_copy(), run.adapters.parameters().to(at::kBFloat16)));
}

TEST(Checkpoint, EveryFieldOfTheStateAndTheRecordReadsBackEqual) {
  const TempFolder folder;
  const SmallRun run(200);
  run.save(folder / "step-000200");
  const auto read = checkpoint::verify_checkpoint(folder / "step-000200");
  const auto& loop = read.state.loop;
  const auto& wanted = run.state.loop;
  EXPECT_EQ(read.state.optimizer_step, 200);
  EXPECT_EQ(read.state.metrics_bytes, run.state.metrics_bytes);
  EXPECT_TRUE(loop.result.ended_early);
  EXPECT_EQ(loop.result.steps, 200);
  EXPECT_EQ(std::bit_cast<uint64_t>(loop.result.epoch), std::bit_cast<uint64_t>(wanted.result.epoch));
  EXPECT_EQ(loop.result.trained_tokens, wanted.result.trained_tokens);
  EXPECT_EQ(loop.result.tokens, wanted.result.tokens);
  EXPECT_EQ(std::bit_cast<uint64_t>(loop.result.seconds), std::bit_cast<uint64_t>(wanted.result.seconds));
  EXPECT_EQ(loop.result.training_seconds, 3.0);
  EXPECT_EQ(std::bit_cast<uint64_t>(loop.result.last_loss), uint64_t{1});
  ASSERT_EQ(loop.result.first_evaluation.size(), 2U);
  const auto& evaluation = loop.result.first_evaluation[1];
  EXPECT_EQ(evaluation.name, wanted.result.first_evaluation[1].name);
  EXPECT_EQ(evaluation.eval_loss, 1.0 / 3.0);
  EXPECT_EQ(evaluation.eval_tokens, 1234);
  EXPECT_EQ(evaluation.token_accuracy, 0.1);
  EXPECT_EQ(evaluation.seconds, 2.5e-7);
  ASSERT_EQ(loop.result.last_evaluation.size(), 1U);
  EXPECT_EQ(loop.result.last_evaluation[0].step, 200);
  EXPECT_EQ(loop.result.last_evaluation[0].epoch, wanted.result.last_evaluation[0].epoch);
  EXPECT_EQ(loop.evaluated_at, 199);
  ASSERT_TRUE(loop.best.has_value());
  EXPECT_EQ(loop.best->step, 198);
  EXPECT_EQ(std::bit_cast<uint64_t>(loop.best->value), uint64_t{1} << 63);
  EXPECT_EQ(loop.stale_evaluations, 2);
  EXPECT_EQ(loop.steps_above, 7);
  const auto record = test::a_record();
  EXPECT_EQ(read.record.run_name, record.run_name);
  EXPECT_EQ(read.record.settings, record.settings);
  EXPECT_EQ(read.record.requested, record.requested);
  EXPECT_EQ(read.record.versions, record.versions);
  EXPECT_EQ(read.record.hashes, record.hashes);
  EXPECT_EQ(read.record.compute, record.compute);
}

TEST(Checkpoint, AFreshLoopReadsBackToo) {
  const TempFolder folder;
  SmallRun run(0);
  run.state.loop = {};
  run.save(folder / "step-000000");
  const auto read = checkpoint::verify_checkpoint(folder / "step-000000");
  EXPECT_EQ(read.state.loop.evaluated_at, -1);
  EXPECT_FALSE(read.state.loop.best.has_value());
  EXPECT_TRUE(read.state.loop.result.first_evaluation.empty());
}

TEST(Checkpoint, HoldsTheFilesItNamesAndIsAnAdapter) {
  const TempFolder folder;
  const SmallRun run(3);
  run.save(folder / "step-000003");
  EXPECT_THAT(checkpoint::checkpoint_file_names(),
              ElementsAre("adapter_config.json", "adapter_model.safetensors", "manifest.json", "optimizer.safetensors",
                          "training_state.json"));
  const auto names = checkpoint::checkpoint_file_names();
  EXPECT_EQ(names_in(folder / "step-000003"), std::set<std::string>(names.begin(), names.end()));
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"step-000003"});
  auto adapters = test::tiny_adapters(at::kFloat, 9);
  checkpoint::load_adapter(folder / "step-000003", adapters);
  EXPECT_TRUE(test::same_bits(adapters.parameters(), run.adapters.parameters()));
}

TEST(Checkpoint, TakesNoMoreThanWasPlanned) {
  const TempFolder folder;
  const SmallRun run(3);
  run.save(folder / "step-000003");
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder / "step-000003")) {
    bytes += entry.file_size();
  }
  EXPECT_LE(bytes, checkpoint::checkpoint_bytes(run.adapters.count()));
  EXPECT_GE(bytes, 12 * static_cast<uint64_t>(run.adapters.count()));
}

TEST(Checkpoint, WhatIsNotFiniteIsNamedAndNothingIsWritten) {
  const TempFolder folder;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  SmallRun parameter(1);
  parameter.adapters.pairs()[1].b.view(-1)[0] = nan;
  SmallRun moment(1);
  moment.moments.moment2[5] = std::numeric_limits<float>::infinity();
  SmallRun loop(1);
  loop.state.loop.result.last_evaluation[0].eval_loss = nan;
  const std::string pair = parameter.adapters.pairs()[1].module_path + ".lora_B.weight";
  EXPECT_THAT(test::message_of<NumericsError>([&] { parameter.save(folder / "c/step-000001"); }), HasSubstr(pair));
  EXPECT_THAT(test::message_of<NumericsError>([&] { moment.save(folder / "c/step-000001"); }), HasSubstr("moment2"));
  EXPECT_THAT(test::message_of<NumericsError>([&] { loop.save(folder / "c/step-000001"); }),
              HasSubstr("result.last_evaluation.eval_loss"));
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(Checkpoint, IsNeverWrittenOverAnother) {
  const TempFolder folder;
  SmallRun(1).save(folder / "step-000001");
  const std::string before = test::read_all(folder / "step-000001/manifest.json");
  EXPECT_THAT(test::message_of<ResourceError>([&] { SmallRun(1).save(folder / "step-000001"); }),
              HasSubstr("exists already"));
  EXPECT_EQ(test::read_all(folder / "step-000001/manifest.json"), before);
}

TEST(Checkpoint, AnInterruptedSaveDoesNotBlockTheNext) {
  const TempFolder folder;
  folder.write(".step-000001.partial/optimizer.safetensors", "half");
  SmallRun(1).save(folder / "step-000001");
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"step-000001"});
}

TEST(Checkpoint, ALeftoverWithSomethingForeignIsLeftAlone) {
  const TempFolder folder;
  folder.write(".step-000001.partial/optimizer.safetensors", "half");
  folder.write(".step-000001.partial/thesis.txt", "mine");
  EXPECT_THAT(test::message_of<ResourceError>([&] { SmallRun(1).save(folder / "step-000001"); }),
              HasSubstr("thesis.txt"));
  EXPECT_EQ(test::read_all(folder / ".step-000001.partial/thesis.txt"), "mine");
  EXPECT_EQ(test::read_all(folder / ".step-000001.partial/optimizer.safetensors"), "half");
}

TEST(Checkpoint, AFolderThatCannotBeWrittenIsNamed) {
  const TempFolder folder;
  folder.write("file", "");
  EXPECT_THAT(test::message_of<ResourceError>([&] { SmallRun(1).save(folder / "file/step-000001"); }),
              HasSubstr(folder / "file"));
}

TEST(Checkpoint, OfAnotherAdapterIsRefusedWhole) {
  const TempFolder folder;
  SmallRun(1).save(folder / "step-000001");
  const auto verified = checkpoint::verify_checkpoint(folder / "step-000001");
  auto config = phi3::read_adapter_config(test::kPeftAdapter);
  config.rank = 2;
  config.rank_pattern.clear();
  model::LoraAdapters other(phi3::read_model_config(test::kTinyModel), config, at::kFloat, 1, false);
  const auto moments = test::moments_of(other, 0);
  const at::Tensor before = other.parameters().clone();
  const auto message =
      test::message_of<CheckpointError>([&] { checkpoint::load_checkpoint(verified, other, moments); });
  EXPECT_THAT(message, HasSubstr("qkv_proj.lora_A.weight is F32 ["));
  EXPECT_THAT(message, HasSubstr("moment1 is F32 ["));
  EXPECT_TRUE(test::same_bits(other.parameters(), before));
}

TEST(TrainingState, EveryMemberIsWantedAndNoOther) {
  const TempFolder folder;
  const std::string text = checkpoint::training_state_text(test::a_state(4));
  const auto whole = io::Json::parse(text);
  const auto read = [&](const io::Json& json) {
    return checkpoint::read_training_state(folder.write("training_state.json", json.dump()));
  };
  EXPECT_EQ(read(whole).loop.result.steps, 4);
  EXPECT_EQ(checkpoint::training_state_text(read(whole)), text);
  int faults = 0;
  // Each member of every object: gone, of another type, and one beside it.
  const auto members = whole.flatten();
  for (const auto& [pointer, value] : members.items()) {
    const io::Json::json_pointer place(pointer);
    const bool in_list = place.back().find_first_not_of("0123456789") == std::string::npos;
    auto changed = whole;
    changed[place] = io::Json::array({1});
    EXPECT_THROW(read(changed), CheckpointError) << pointer;
    if (value.is_number_float()) {
      changed[place] = 1;  // a whole number where a fraction was written
      EXPECT_THROW(read(changed), CheckpointError) << pointer;
    }
    ASSERT_FALSE(in_list);
    auto less = whole;
    less[place.parent_pointer()].erase(place.back());
    EXPECT_THROW(read(less), CheckpointError) << pointer;
    auto more = whole;
    more[place.parent_pointer()][place.back() + "_"] = value;
    EXPECT_THAT(test::message_of<CheckpointError>([&] { read(more); }), HasSubstr(place.back() + "_")) << pointer;
    ++faults;
  }
  EXPECT_EQ(faults, 37);
}

}  // namespace
}  // namespace phi3tune
