// Five hundred damaged checkpoints: none is accepted, the older one is found, and the reason names the file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <random>

#include "phi3tune/checkpoint/checkpoints.h"
#include "phi3tune/core/error.h"
#include "states.h"
#include "support/temp_folder.h"
#include "support/tensors.h"

namespace phi3tune {
namespace {

namespace fs = std::filesystem;
using checkpoint::Checkpoints;
using test::TempFolder;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr int64_t kOld = 100;
constexpr int64_t kNew = 200;

// A pair of checkpoints of one run, saved once.
class Pair {
 public:
  Pair() {
    test::SmallRun(kOld).save(folder_ / "step-000100");
    test::SmallRun(kNew).save(folder_ / "step-000200");
  }
  // After the damage to one file, or to the newer folder as a whole.
  void restore(const std::string& folder, const std::string& path) const {
    const std::string newer = folder + "/step-000200";
    if (fs::exists(newer + "/manifest.json") && fs::path(path).filename() != "manifest.json") {
      fs::remove_all(path);
      fs::copy_file(folder_ / "step-000200/" + fs::path(path).filename().string(), path);
    } else {
      fs::remove_all(newer);
      fs::copy(folder_ / "step-000200", newer, fs::copy_options::recursive);
    }
    fs::remove(folder + "/elsewhere");
  }
  void copy_to(const std::string& folder) const { fs::copy(folder_.path(), folder, fs::copy_options::recursive); }

 private:
  TempFolder folder_;
};

void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

struct Damage {
  const char* name;
  // Damages the newer one; `file` is a name inside it. Returns the path that the reason must hold.
  std::function<std::string(const std::string& folder, const std::string& file, std::mt19937_64&)> apply;
};

const std::vector<Damage> kDamages{
    {"truncated",
     [](const std::string& folder, const std::string& file, std::mt19937_64& random) {
       const std::string path = folder + "/step-000200/" + file;
       fs::resize_file(path, random() % fs::file_size(path));
       return path;
     }},
    {"a bit flipped",
     [](const std::string& folder, const std::string& file, std::mt19937_64& random) {
       const std::string path = folder + "/step-000200/" + file;
       std::string bytes = test::read_all(path);
       char& byte = bytes[random() % bytes.size()];
       byte = static_cast<char>(byte ^ (1 << random() % 8));
       put(path, bytes);
       return path;
     }},
    {"bytes appended",
     [](const std::string& folder, const std::string& file, std::mt19937_64& random) {
       const std::string path = folder + "/step-000200/" + file;
       put(path, test::read_all(path) + std::string(1 + random() % 64, '\n'));
       return path;
     }},
    {"a block of zeros, as an unsynced file has after a power cut",
     [](const std::string& folder, const std::string& file, std::mt19937_64& random) {
       const std::string path = folder + "/step-000200/" + file;
       std::string bytes = test::read_all(path);
       const size_t at = random() % bytes.size();
       std::fill(bytes.begin() + static_cast<int64_t>(at), bytes.end(), '\0');
       bytes[at] = static_cast<char>(test::read_all(path)[at] ^ 1);  // it was a zero already, perhaps
       put(path, bytes);
       return path;
     }},
    {"emptied",
     [](const std::string& folder, const std::string& file, std::mt19937_64&) {
       put(folder + "/step-000200/" + file, "");
       return folder + "/step-000200/" + file;
     }},
    {"deleted",
     [](const std::string& folder, const std::string& file, std::mt19937_64&) {
       fs::remove(folder + "/step-000200/" + file);
       return folder + "/step-000200/" + file;
     }},
    {"a link to a sound file",
     [](const std::string& folder, const std::string& file, std::mt19937_64&) {
       const std::string path = folder + "/step-000200/" + file;
       fs::rename(path, folder + "/elsewhere");
       fs::create_symlink("../elsewhere", path);
       return path;
     }},
    {"a folder in its place",
     [](const std::string& folder, const std::string& file, std::mt19937_64&) {
       const std::string path = folder + "/step-000200/" + file;
       fs::remove(path);
       fs::create_directory(path);
       return path;
     }},
    {"of the other step",
     [](const std::string& folder, const std::string& file, std::mt19937_64&) {
       // adapter_config.json is the same in both; a manifest is of the other step as a whole.
       const std::string name = file == "adapter_config.json" ? "training_state.json" : file;
       fs::copy_file(folder + "/step-000100/" + name, folder + "/step-000200/" + name,
                     fs::copy_options::overwrite_existing);
       return folder + "/step-000200/" + name;
     }},
    {"an older one under a newer name",
     [](const std::string& folder, const std::string&, std::mt19937_64&) {
       fs::remove_all(folder + "/step-000200");
       fs::copy(folder + "/step-000100", folder + "/step-000200", fs::copy_options::recursive);
       return folder + "/step-000200/manifest.json";
     }},
};

TEST(DamagedCheckpoints, NoneOfFiveHundredIsAcceptedAndTheOlderOneIsFound) {
  const Pair pair;
  std::mt19937_64 random(8);
  const auto files = checkpoint::checkpoint_file_names();
  constexpr int kCases = 500;
  int accepted = 0;
  const TempFolder temp;
  const std::string folder = temp / "checkpoints";
  pair.copy_to(folder);
  for (int index = 0; index < kCases; ++index) {
    const Damage& damage = kDamages[static_cast<size_t>(index) % kDamages.size()];
    const std::string& file = files[static_cast<size_t>(index) / kDamages.size() % files.size()];
    const std::string path = damage.apply(folder, file, random);
    const auto found = Checkpoints(folder).find_newest();
    ASSERT_TRUE(found.newest.has_value()) << damage.name << ": " << file;
    accepted += found.newest->step == kNew ? 1 : 0;
    EXPECT_EQ(found.newest->step, kOld) << damage.name << ": " << file;
    ASSERT_THAT(found.skipped, SizeIs(1)) << damage.name << ": " << file;
    EXPECT_THAT(found.skipped[0], HasSubstr(path)) << damage.name;
    EXPECT_EQ(found.skipped[0].find('\n'), std::string::npos);
    pair.restore(folder, path);
  }
  EXPECT_EQ(accepted, 0);
}

TEST(DamagedCheckpoints, ASoundPairGivesTheNewer) {
  const TempFolder temp;
  Pair().copy_to(temp / "c");
  const auto found = Checkpoints(temp / "c").find_newest();
  ASSERT_TRUE(found.newest.has_value());
  EXPECT_EQ(found.newest->step, kNew);
  EXPECT_THAT(found.skipped, IsEmpty());
  EXPECT_EQ(found.newest->folder, temp / "c/step-000200");
}

TEST(DamagedCheckpoints, WhenNoneIsSoundEachIsNamedNewestFirst) {
  const TempFolder temp;
  Pair().copy_to(temp / "c");
  fs::remove(temp / "c/step-000100/manifest.json");
  fs::remove(temp / "c/step-000200/optimizer.safetensors");
  fs::remove(temp / "c/step-000200/adapter_config.json");
  const auto found = Checkpoints(temp / "c").find_newest();
  EXPECT_FALSE(found.newest.has_value());
  ASSERT_THAT(found.skipped, SizeIs(2));
  EXPECT_THAT(found.skipped[0], HasSubstr("step-000200/adapter_config.json: there is no such file; "));
  EXPECT_THAT(found.skipped[0], HasSubstr("step-000200/optimizer.safetensors: there is no such file"));
  EXPECT_THAT(found.skipped[1], HasSubstr("step-000100/manifest.json"));
}

TEST(DamagedCheckpoints, NoFolderHoldsNone) {
  const TempFolder temp;
  const auto found = Checkpoints(temp / "none").find_newest();
  EXPECT_FALSE(found.newest.has_value());
  EXPECT_THAT(found.skipped, IsEmpty());
}

// Manifests that are whole in themselves, and false.
TEST(DamagedCheckpoints, AManifestThatSaysAnotherThingThanTheFilesIsRefused) {
  const TempFolder temp;
  Pair().copy_to(temp / "c");
  const std::string folder = temp / "c/step-000200";
  const io::Manifest whole = io::read_manifest(folder);
  const auto refusal = [&](const std::function<void(io::Manifest&)>& change) {
    io::Manifest manifest = whole;
    change(manifest);
    put(folder + "/manifest.json", io::manifest_text(manifest));
    return test::message_of<CheckpointError>([&] { (void)checkpoint::verify_checkpoint(folder); });
  };
  EXPECT_THAT(refusal([](auto& m) { m.kind = "result"; }), HasSubstr("of kind \"result\", wanted checkpoint"));
  EXPECT_THAT(refusal([](auto& m) { m.facts["step"] = 201; }),
              HasSubstr("of step 201, whose folder is named step-000201"));
  EXPECT_THAT(refusal([](auto& m) { m.facts["step"] = "200"; }), HasSubstr("no step"));
  EXPECT_THAT(refusal([](auto& m) { m.facts.erase("step"); }), HasSubstr("no step"));
  EXPECT_THAT(refusal([](auto& m) { m.facts.erase("record"); }), HasSubstr("wanted step and record"));
  EXPECT_THAT(refusal([](auto& m) { m.facts["record"]["settings"] = 3; }), HasSubstr("settings"));
  EXPECT_THAT(refusal([](auto& m) { m.files.erase("optimizer.safetensors"); }),
              HasSubstr("does not list optimizer.safetensors"));
  EXPECT_THAT(refusal([](auto& m) { m.files["x"] = {0, std::string(32, '0')}; }), HasSubstr("lists x"));
  // A state of another step, listed with its own hash.
  fs::copy_file(temp / "c/step-000100/training_state.json", folder + "/training_state.json",
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(
      refusal([&](auto& m) { m.files["training_state.json"] = io::measure_file(folder + "/training_state.json"); }),
      HasSubstr("training_state.json: of step 100, the manifest says 200"));
}

// Files that are as they were written, by a program that wrote them wrongly.
TEST(DamagedCheckpoints, TensorsThatDoNotFitAreAllNamedAndNothingIsTaken) {
  const TempFolder temp;
  Pair().copy_to(temp / "c");
  const std::string folder = temp / "c/step-000200";
  const std::vector<float> numbers(3, std::numeric_limits<float>::quiet_NaN());
  const auto bytes = std::as_bytes(std::span(numbers));
  io::write_safetensors(folder + "/optimizer.safetensors",
                        {{"moment1", io::DType::kF32, {3}, bytes}, {"moment3", io::DType::kF32, {3}, bytes}});
  io::Manifest manifest = io::read_manifest(folder);
  manifest.files["optimizer.safetensors"] = io::measure_file(folder + "/optimizer.safetensors");
  put(folder + "/manifest.json", io::manifest_text(manifest));
  auto adapters = test::tiny_adapters(at::kFloat, 5);
  const auto moments = test::moments_of(adapters, 0);
  const at::Tensor before = adapters.parameters().clone();
  const auto message = test::message_of<CheckpointError>(
      [&] { checkpoint::load_checkpoint(checkpoint::verify_checkpoint(folder), adapters, moments); });
  EXPECT_THAT(message, HasSubstr("moment1 is F32 [3]; this run wants F32 ["));
  EXPECT_THAT(message, HasSubstr("moment2 is missing"));
  EXPECT_THAT(message, HasSubstr("moment3 [3] was not expected"));
  EXPECT_TRUE(test::same_bits(adapters.parameters(), before));
}

}  // namespace
}  // namespace phi3tune
