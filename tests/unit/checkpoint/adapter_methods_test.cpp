// DoRA's magnitudes and PiSSA's starts in the files of an adapter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "phi3tune/core/error.h"
#include "phi3tune/io/json.h"
#include "states.h"
#include "support/references.h"
#include "support/temp_folder.h"
#include "support/tensors.h"

namespace phi3tune {
namespace {

using test::TempFolder;
using testing::HasSubstr;

const std::string kReferences = std::string(PHI3TUNE_SOURCE_DIR) + "/tests/references";
const char* const kTensors = "/adapter_model.safetensors";

model::LoraAdapters adapters_like(const std::string& adapter) {
  return {phi3::read_model_config(kReferences + "/models/gqa"), phi3::read_adapter_config(adapter), at::kFloat, 3,
          false};
}

// The adapters of tests/references/forward_backward/gqa_pissa as PEFT started them, and as they were after some steps.
model::LoraAdapters pissa_adapters() {
  auto config = phi3::read_adapter_config(kReferences + "/adapters/gqa_pissa");
  config.rank /= 2;
  config.alpha /= 2;
  model::LoraAdapters adapters(phi3::read_model_config(kReferences + "/models/gqa"), config, at::kFloat, 3, false);
  const auto tensors = test::read_tensors(kReferences + "/forward_backward/gqa_pissa.long.packed.float32.safetensors");
  const auto fill = [&](const std::string& prefix) {
    for (const auto& pair : adapters.pairs()) {
      at::Tensor(pair.a).copy_(tensors.at(prefix + phi3::lora_tensor_name(pair.module_path, 'A')));
      at::Tensor(pair.b).copy_(tensors.at(prefix + phi3::lora_tensor_name(pair.module_path, 'B')));
    }
  };
  fill("start.");
  adapters.start_from_base(adapters.parameters().clone());
  fill("trained.");
  return adapters;
}

checkpoint::AdapterFiles bare_files() {
  checkpoint::AdapterFiles files;
  files.card = test::tiny_card();
  return files;
}

TEST(DoraAdapter, KeepsBytesThatPeftWrote) {
  const TempFolder folder;
  const auto theirs = kReferences + "/adapters/gqa_dora";
  auto adapters = adapters_like(theirs);
  checkpoint::load_adapter(theirs, adapters);
  EXPECT_FALSE(adapters.wants_magnitudes());
  checkpoint::save_adapter(folder / "out", adapters, bare_files());
  EXPECT_TRUE(test::read_all(folder / "out/adapter_model.safetensors") == test::read_all(theirs + kTensors));
  EXPECT_EQ(io::read_json_file<CheckpointError>(folder / "out/adapter_config.json")["use_dora"], true);
}

TEST(DoraAdapter, MagnitudesThatAreMissingOrLeftOverAreNamed) {
  const TempFolder folder;
  auto config = phi3::read_adapter_config(kReferences + "/adapters/gqa");
  config.use_dora = true;
  model::LoraAdapters wanting(phi3::read_model_config(kReferences + "/models/gqa"), config, at::kFloat, 3, false);
  EXPECT_THAT(
      test::message_of<CheckpointError>([&] { checkpoint::load_adapter(kReferences + "/adapters/gqa", wanting); }),
      HasSubstr("qkv_proj.lora_magnitude_vector is missing"));
  config = phi3::read_adapter_config(kReferences + "/adapters/gqa_dora");
  config.use_dora = false;
  model::LoraAdapters plain(phi3::read_model_config(kReferences + "/models/gqa"), config, at::kFloat, 3, false);
  EXPECT_THAT(
      test::message_of<CheckpointError>([&] { checkpoint::load_adapter(kReferences + "/adapters/gqa_dora", plain); }),
      HasSubstr("lora_magnitude_vector [64] was not expected; use_dora is false"));
}

TEST(PissaAdapter, IsSavedAsTheLoraThatPeftConvertsItTo) {
  const TempFolder folder;
  const auto adapters = pissa_adapters();
  checkpoint::save_adapter(folder / "out", adapters, bare_files());
  const auto theirs = kReferences + "/adapters/gqa_pissa";
  EXPECT_TRUE(test::read_all(folder / "out/adapter_model.safetensors") == test::read_all(theirs + kTensors));
  EXPECT_EQ(test::read_all(folder / "out/adapter_config.json"),
            phi3::adapter_config_text(phi3::read_adapter_config(theirs)));
}

TEST(PissaAdapter, ACheckpointGivesStartAndParametersBackToTheBit) {
  const TempFolder folder;
  const auto adapters = pissa_adapters();
  const auto moments = test::moments_of(adapters, 4);
  checkpoint::save_checkpoint(folder / "step-000004", adapters, moments, test::a_state(4), test::a_record());

  auto again = pissa_adapters();
  const auto start = checkpoint::read_start(folder / "step-000004", again);
  again.start_from_base(start);
  EXPECT_FALSE(test::same_bits(again.parameters(), adapters.parameters()));
  checkpoint::load_checkpoint(checkpoint::verify_checkpoint(folder / "step-000004"), again, test::moments_of(again, 0));
  EXPECT_TRUE(test::same_bits(again.parameters(), adapters.parameters()));
  for (size_t i = 0; i < again.pairs().size(); ++i) {
    EXPECT_TRUE(test::same_bits(again.pairs()[i].initial_a, adapters.pairs()[i].initial_a));
    EXPECT_TRUE(test::same_bits(again.pairs()[i].initial_b, adapters.pairs()[i].initial_b));
  }
}

TEST(PissaAdapter, AnotherStartIsRefusedAndNothingIsTaken) {
  const TempFolder folder;
  const auto adapters = pissa_adapters();
  checkpoint::save_checkpoint(folder / "step-000004", adapters, test::moments_of(adapters, 4), test::a_state(4),
                              test::a_record());
  auto other = pissa_adapters();
  auto start = checkpoint::read_start(folder / "step-000004", other);
  start.mul_(1.0F + 1e-6F);
  other.start_from_base(start);
  const auto before = other.parameters().clone();
  EXPECT_THAT(test::message_of<CheckpointError>([&] {
                checkpoint::load_checkpoint(checkpoint::verify_checkpoint(folder / "step-000004"), other,
                                            test::moments_of(other, 0));
              }),
              HasSubstr("started from another part of the base than this run"));
  EXPECT_TRUE(test::same_bits(other.parameters(), before));
}

}  // namespace
}  // namespace phi3tune
