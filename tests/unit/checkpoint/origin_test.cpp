// An adapter and the base it was trained over.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/core/error.h"
#include "support/temp_folder.h"
#include "tiny.h"

namespace phi3tune {
namespace {

using test::TempFolder;
using testing::AllOf;
using testing::HasSubstr;

std::string save_with(const TempFolder& folder, const phi3::AdapterOrigin& origin) {
  checkpoint::AdapterFiles files;
  files.card = test::tiny_card();
  files.origin = origin;
  checkpoint::save_adapter(folder / "adapter", test::tiny_adapters(), files);
  return folder / "adapter";
}

TEST(AdapterOrigin, IsReadBackFromTheFile) {
  for (const bool twice : {true, false}) {
    const TempFolder folder;
    const auto path = save_with(folder, {"abc", phi3::HeldInNf4{128, twice}});
    const auto origin = phi3::read_adapter_origin(path);
    EXPECT_EQ(origin.base, "abc");
    ASSERT_TRUE(origin.held_in_nf4);
    EXPECT_EQ(origin.held_in_nf4->block_size, 128);
    EXPECT_EQ(origin.held_in_nf4->double_quant, twice);
  }
  const auto none = phi3::read_adapter_origin(test::kPeftAdapter);
  EXPECT_EQ(none.base, "");
  EXPECT_FALSE(none.held_in_nf4);
}

TEST(RequireBase, RefusesAnotherBaseAndNamesBoth) {
  const TempFolder folder;
  const auto base = phi3::ModelFolder::open(test::kTinyModel);
  const auto own = save_with(folder, {base.fingerprint(), std::nullopt});
  EXPECT_NO_THROW(phi3::require_base(own, base, false));

  const auto other = phi3::ModelFolder::open(PHI3TUNE_SOURCE_DIR "/tests/references/models/mha_nf4_bfloat16");
  EXPECT_THAT(test::message_of<CheckpointError>([&] { phi3::require_base(own, other, false); }),
              AllOf(HasSubstr("trained over mha (fingerprint " + base.fingerprint()), HasSubstr(other.path()),
                    HasSubstr(other.fingerprint()), HasSubstr("--any-base")));
  EXPECT_NO_THROW(phi3::require_base(own, other, true));
}

TEST(RequireBase, AnAdapterThatSaysNothingPasses) {
  const auto base = phi3::ModelFolder::open(test::kTinyModel);
  EXPECT_NO_THROW(phi3::require_base(test::kPeftAdapter, base, false));
}

}  // namespace
}  // namespace phi3tune
