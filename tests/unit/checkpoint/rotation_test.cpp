// Which checkpoints go, over random schedules; and that a rotation that is cut short anywhere leaves the best and the
// newest sound.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <set>

#include "phi3tune/checkpoint/checkpoints.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"
#include "states.h"
#include "support/temp_folder.h"

namespace phi3tune {
namespace {

namespace fs = std::filesystem;
using checkpoint::Checkpoints;
using checkpoint::to_rotate;
using test::TempFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

bool holds(const std::vector<int64_t>& steps, int64_t step) {
  return std::find(steps.begin(), steps.end(), step) != steps.end();
}

TEST(ToRotate, TheOldestGoFirst) {
  EXPECT_THAT(to_rotate({100, 200, 300, 400}, 2, std::nullopt), ElementsAre(100, 200));
  EXPECT_THAT(to_rotate({400, 100, 300, 200}, 2, 100), ElementsAre(200, 300));
  EXPECT_THAT(to_rotate({100, 200, 300}, 1, 300), ElementsAre(100, 200));
  EXPECT_THAT(to_rotate({100, 200, 300}, 1, 200), ElementsAre(100));
  EXPECT_THAT(to_rotate({100, 200, 300}, 1, 50), ElementsAre(100, 200));  // the best one is not there
  EXPECT_THAT(to_rotate({100, 200, 300}, 0, std::nullopt), IsEmpty());
  EXPECT_THAT(to_rotate({100, 200}, 5, std::nullopt), IsEmpty());
  EXPECT_THAT(to_rotate({}, 1, 5), IsEmpty());
}

TEST(ToRotate, TenThousandSchedulesNeverLoseTheBestOrTheNewest) {
  std::mt19937_64 random(20);
  constexpr int kSchedules = 10000;
  int rotated = 0;
  for (int schedule = 0; schedule < kSchedules; ++schedule) {
    const auto limit = static_cast<int64_t>(random() % 6);
    std::vector<int64_t> kept;
    std::optional<int64_t> best;
    int64_t step = 0;
    for (int save = 0; save < 20; ++save) {
      step += 1 + static_cast<int64_t>(random() % 100);
      kept.push_back(step);
      if (random() % 3 == 0) {
        best = step;
      }
      if (random() % 8 == 0) {
        continue;  // killed before it could rotate
      }
      std::shuffle(kept.begin(), kept.end(), random);
      const auto gone = to_rotate(kept, limit, best);
      ASSERT_TRUE(std::is_sorted(gone.begin(), gone.end()));
      ASSERT_FALSE(holds(gone, step)) << "the newest of schedule " << schedule;
      ASSERT_FALSE(best && holds(gone, *best)) << "the best of schedule " << schedule;
      const size_t before = kept.size();
      std::erase_if(kept, [&](int64_t each) { return holds(gone, each); });
      ASSERT_EQ(kept.size(), before - gone.size());
      const int64_t most = std::max<int64_t>(limit, best && *best != step ? 2 : 1);
      if (limit == 0) {
        ASSERT_TRUE(gone.empty());
      } else {
        ASSERT_LE(static_cast<int64_t>(kept.size()), most);
        ASSERT_GE(static_cast<int64_t>(kept.size()), std::min<int64_t>(most, static_cast<int64_t>(before)));
      }
      // What goes is older than all that stay, but for the best.
      for (const int64_t each : kept) {
        ASSERT_TRUE(gone.empty() || each > gone.back() || each == best);
      }
      rotated += gone.empty() ? 0 : 1;
    }
  }
  EXPECT_GT(rotated, 50000);
}

// A manifest with one file: what rotation looks at.
void make_checkpoint(const Checkpoints& checkpoints, int64_t step) {
  const std::string folder = checkpoints.path_of(step);
  fs::create_directories(folder);
  const std::string text = std::to_string(step);
  std::ofstream(folder + "/optimizer.safetensors") << text;
  io::Manifest manifest;
  manifest.kind = "checkpoint";
  manifest.files["optimizer.safetensors"] = {text.size(), hash_bytes(text).hex()};
  std::ofstream(folder + "/" + io::kManifestName) << io::manifest_text(manifest);
}

bool is_whole(const Checkpoints& checkpoints, int64_t step) {
  const std::string folder = checkpoints.path_of(step);
  return io::faults_of(folder, io::read_manifest(folder)).empty();
}

// What a rotation that was killed leaves: the name gone, a part of the files deleted.
void leave_half(const Checkpoints& checkpoints, int64_t step, std::mt19937_64& random) {
  const std::string trash = checkpoints.folder() + "/." + checkpoint::checkpoint_name(step) + ".trash";
  fs::rename(checkpoints.path_of(step), trash);
  const char* const names[] = {io::kManifestName, "optimizer.safetensors"};
  for (size_t i = 0; i < random() % 3; ++i) {
    fs::remove(trash + "/" + names[i]);
  }
}

TEST(Rotation, CutShortAnywhereItLeavesTheBestAndTheNewestWholeAndIsCleanedUp) {
  std::mt19937_64 random(9);
  int crashes = 0;
  for (int schedule = 0; schedule < 200; ++schedule) {
    const TempFolder folder;
    const Checkpoints checkpoints(folder / "checkpoints");
    const auto limit = static_cast<int64_t>(1 + random() % 3);
    std::optional<int64_t> best;
    for (int64_t step = 1; step <= 6; ++step) {
      make_checkpoint(checkpoints, step);
      best = random() % 3 == 0 ? step : best;
      if (random() % 3 == 0) {  // the kill falls into this rotation
        for (const int64_t gone : to_rotate(checkpoints.steps(), limit, best)) {
          leave_half(checkpoints, gone, random);
          ++crashes;
          if (random() % 2 == 0) {
            break;
          }
        }
        fs::create_directory(folder / "checkpoints/.step-000099.partial");
        folder.write("checkpoints/.step-000098.partial/optimizer.safetensors", "half");
      } else {
        (void)checkpoints.rotate(step, limit, best);
      }
      checkpoints.clean();
      ASSERT_TRUE(is_whole(checkpoints, step));
      ASSERT_TRUE(!best || is_whole(checkpoints, *best));
      for (const auto& entry : fs::directory_iterator(folder / "checkpoints")) {
        ASSERT_NE(entry.path().filename().string().front(), '.') << entry.path();
      }
    }
    (void)checkpoints.rotate(6, limit, best);
    ASSERT_LE(static_cast<int64_t>(checkpoints.steps().size()), std::max<int64_t>(limit, 2));
  }
  EXPECT_GT(crashes, 100);
}

TEST(Rotation, AFolderWithSomethingForeignStaysAndIsSaid) {
  const TempFolder folder;
  const Checkpoints checkpoints(folder / "c");
  for (const int64_t step : {1, 2, 3, 4}) {
    make_checkpoint(checkpoints, step);
  }
  folder.write("c/step-000001/thesis.txt", "mine");
  fs::remove(folder / "c/step-000002/manifest.json");
  testing::internal::CaptureStderr();
  EXPECT_THAT(checkpoints.rotate(4, 1, std::nullopt), ElementsAre(3));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("step-000001: does not count among the checkpoints to keep and is not deleted: it holds "
                             "what phi3-tune did not write: thesis.txt"));
  EXPECT_THAT(log, HasSubstr("step-000002/manifest.json: there is no such file"));
  EXPECT_THAT(checkpoints.steps(), ElementsAre(1, 2, 4));
  EXPECT_TRUE(is_whole(checkpoints, 1));
  EXPECT_EQ(test::read_all(folder / "c/step-000001/thesis.txt"), "mine");
}

// A damaged one lies ahead, and the run went back behind it.
TEST(Rotation, WhatTheRunStandsOnStaysWhateverLiesAhead) {
  const TempFolder folder;
  const Checkpoints checkpoints(folder / "c");
  for (const int64_t step : {10, 20, 30}) {
    make_checkpoint(checkpoints, step);
  }
  EXPECT_THAT(checkpoints.rotate(20, 1, std::nullopt), ElementsAre(10));
  EXPECT_THAT(checkpoints.steps(), ElementsAre(20, 30));
}

TEST(Rotation, LinksAreNeitherFollowedNorDeleted) {
  const TempFolder folder;
  const Checkpoints checkpoints(folder / "c");
  const Checkpoints elsewhere(folder / "other");
  make_checkpoint(checkpoints, 5);
  make_checkpoint(elsewhere, 1);
  fs::create_directory_symlink(elsewhere.path_of(1), checkpoints.path_of(1));
  fs::create_directory_symlink(elsewhere.path_of(1), folder / "c/.step-000003.trash");
  EXPECT_THAT(checkpoints.rotate(5, 1, std::nullopt), IsEmpty());
  checkpoints.clean();
  EXPECT_TRUE(is_whole(elsewhere, 1));
  EXPECT_TRUE(fs::is_symlink(folder / "c/.step-000003.trash"));
}

TEST(Cleaning, DeletesLeftoversAndNothingElse) {
  const TempFolder folder;
  const Checkpoints checkpoints(folder / "c");
  checkpoints.clean();  // no folder yet
  make_checkpoint(checkpoints, 1);
  folder.write("c/.step-000002.partial/adapter_config.json", "{}");
  folder.write("c/.step-000002.partial/.optimizer.safetensors.41-3.part", "half");
  folder.write("c/.step-000003.trash/optimizer.safetensors", "half");
  folder.write("c/.step-000004.trash/optimizer.safetensors", "half");
  folder.write("c/.step-000004.trash/notes.txt", "mine");
  folder.write("c/.step-5.trash/optimizer.safetensors", "no name of ours");
  folder.write("c/.adapter.partial/README.md", "no business of ours");
  testing::internal::CaptureStderr();
  checkpoints.clean();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("notes.txt"));
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder / "c")) {
    names.insert(entry.path().filename().string());
  }
  EXPECT_EQ(names, (std::set<std::string>{"step-000001", ".step-000004.trash", ".step-5.trash", ".adapter.partial"}));
  EXPECT_EQ(test::read_all(folder / "c/.step-000004.trash/notes.txt"), "mine");
  EXPECT_TRUE(is_whole(checkpoints, 1));
}

TEST(Cleaning, RoomIsMadeForACheckpointThatIsSavedAgain) {
  const TempFolder folder;
  const Checkpoints checkpoints(folder / "c");
  checkpoints.make_room(1);  // nothing is there
  make_checkpoint(checkpoints, 1);
  fs::remove(folder / "c/step-000001/manifest.json");
  checkpoints.make_room(1);
  EXPECT_TRUE(fs::is_empty(folder / "c"));
  make_checkpoint(checkpoints, 2);
  folder.write("c/step-000002/thesis.txt", "mine");
  EXPECT_THAT(test::message_of<ResourceError>([&] { checkpoints.make_room(2); }), HasSubstr("thesis.txt"));
  EXPECT_TRUE(is_whole(checkpoints, 2));
}

TEST(Checkpoints, AFolderThatCannotBeListedIsNamed) {
  const TempFolder folder;
  folder.write("file", "");
  EXPECT_THAT(test::message_of<ResourceError>([&] { Checkpoints checkpoints(folder / "file"); }),
              HasSubstr("cannot list the folder"));
}

}  // namespace
}  // namespace phi3tune
