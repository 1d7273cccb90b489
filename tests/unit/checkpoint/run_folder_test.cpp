#include "phi3tune/checkpoint/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>

#include "checkpoint/owned_files.h"
#include "phi3tune/checkpoint/fingerprint.h"
#include "phi3tune/core/error.h"
#include "support/temp_folder.h"

namespace phi3tune {
namespace {

namespace fs = std::filesystem;
using checkpoint::RunFolder;
using test::TempFolder;
using testing::AllOf;
using testing::HasSubstr;

// Relative path -> contents, of everything below a folder; folders and links are marked.
std::map<std::string, std::string> everything(const std::string& folder) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).string();
    found[name] = entry.is_symlink() ? "link" : entry.is_directory() ? "folder" : test::read_all(entry.path());
  }
  return found;
}

// A run that wrote three files and ended.
void finished_run(const std::string& path) {
  auto folder = RunFolder::prepare(path, false);
  folder.claim({"metrics.jsonl", "adapter/README.md", "adapter/adapter_config.json"});
  folder.write({});
  fs::create_directories(folder.file("adapter"));
  for (const char* name : {"metrics.jsonl", "adapter/README.md", "adapter/adapter_config.json"}) {
    std::ofstream(folder.file(name)) << name;
  }
}

TEST(RunFolder, AbsentOrEmptyFoldersAreMade) {
  const TempFolder folder;
  {
    const auto made = RunFolder::prepare(folder / "a/b/c", false);
    EXPECT_TRUE(fs::is_directory(folder / "a/b/c"));
  }
  EXPECT_FALSE(fs::exists(folder / "a/b/c"));  // a run that was refused leaves no empty folder
  fs::create_directories(folder / "a/b/c");
  EXPECT_NO_THROW(RunFolder::prepare(folder / "a/b/c", false));
  EXPECT_TRUE(fs::exists(folder / "a/b/c"));
  EXPECT_NO_THROW(RunFolder::prepare(folder / "a/b/c/", true));
}

TEST(RunFolder, WhatAKilledRunLeftOfWritingItsRecordIsNothing) {
  const TempFolder temp;
  temp.write("out/.run.json.41-0.part", "{");
  EXPECT_NO_THROW(RunFolder::prepare(temp / "out", false));
  EXPECT_FALSE(fs::exists(temp / "out/.run.json.41-0.part"));
  temp.write("out2/.thesis.txt.41-0.part", "ten years of work");
  EXPECT_THROW(RunFolder::prepare(temp / "out2", false), ConfigError);
  EXPECT_TRUE(fs::exists(temp / "out2/.thesis.txt.41-0.part"));
}

TEST(RunFolder, AnythingInItIsRefusedByName) {
  const TempFolder folder;
  folder.write("out/.hidden", "x");
  EXPECT_THAT(test::message_of<ConfigError>([&] { RunFolder::prepare(folder / "out", false); }),
              HasSubstr("overwrite_output_dir"));
  finished_run(folder / "run");
  const auto before = everything(folder / "run");
  EXPECT_THROW(RunFolder::prepare(folder / "run", false), ConfigError);
  EXPECT_EQ(everything(folder / "run"), before);
}

TEST(RunFolder, OverwriteDeletesWhatARunWrote) {
  const TempFolder folder;
  for (const char* slash : {"", "/"}) {
    const std::string path = folder / (std::string("run") + slash);
    finished_run(path);
    // Left by a kill in the middle of writing.
    folder.write("run/.adapter.partial/.README.md.4711-3.part", "half");
    folder.write("run/.adapter.partial/adapter_config.json", "half");
    folder.write("run/.run.json.4711-0.part", "half");
    {
      const auto again = RunFolder::prepare(path, true);
      EXPECT_TRUE(everything(folder / "run").empty());
    }
    EXPECT_TRUE(fs::is_directory(folder / "run"));
  }
}

TEST(RunFolder, OverwriteTouchesNothingWhenAnythingIsForeign) {
  const auto with = [](const std::function<void(const TempFolder&)>& add, const std::string& named) {
    SCOPED_TRACE(named);
    const TempFolder folder;
    finished_run(folder / "run");
    add(folder);
    const auto before = everything(folder.path());
    EXPECT_THAT(test::message_of<ConfigError>([&] { RunFolder::prepare(folder / "run", true); }),
                AllOf(HasSubstr(named), HasSubstr("nothing was deleted")));
    EXPECT_EQ(everything(folder.path()), before);
  };
  with([](const TempFolder& folder) { folder.write("run/notes.txt", "mine"); }, "notes.txt");
  with([](const TempFolder& folder) { folder.write("run/adapter/extra.bin", "mine"); }, "adapter/extra.bin");
  with([](const TempFolder& folder) { folder.write("run/other/README.md", "mine"); }, "other");
  with([](const TempFolder& folder) { fs::create_directory(folder / "run/empty"); }, "empty");
  with([](const TempFolder& folder) { folder.write("run/.README.md.part", "mine"); }, ".README.md.part");
  // A link under an owned name, to a file or a folder of someone else's.
  with(
      [](const TempFolder& folder) {
        fs::remove(folder / "run/metrics.jsonl");
        fs::create_symlink(folder.write("elsewhere/precious", "x"), folder / "run/metrics.jsonl");
      },
      "metrics.jsonl");
  with(
      [](const TempFolder& folder) {
        fs::remove_all(folder / "run/adapter");
        folder.write("elsewhere/README.md", "precious");
        fs::create_directory_symlink(folder / "elsewhere", folder / "run/adapter");
      },
      "adapter");
  // A folder under an owned file's name.
  with(
      [](const TempFolder& folder) {
        fs::remove(folder / "run/metrics.jsonl");
        folder.write("run/metrics.jsonl/x", "mine");
      },
      "metrics.jsonl");
}

TEST(RunFolder, ARecordThatNamesFilesOutsideDeletesNoneOfThem) {
  const TempFolder folder;
  folder.write("precious.txt", "x");
  folder.write("run/run.json",
               "{\"program\": \"phi3-tune\", \"files\": [\"../precious.txt\", \"" + (folder / "precious.txt") + "\"]}");
  RunFolder::prepare(folder / "run", true);
  EXPECT_EQ(test::read_all(folder / "precious.txt"), "x");
}

TEST(RunFolder, OverwriteNeedsASoundRecordOfOurs) {
  for (const char* record :
       {"", "{", "{}", "{\"program\": \"other\", \"files\": [\"run.json\"]}",
        "{\"program\": \"phi3-tune\", \"files\": 3}", "{\"program\": \"phi3-tune\", \"files\": [3]}", "[]"}) {
    const TempFolder folder;
    folder.write("run/run.json", record);
    EXPECT_THAT(test::message_of<ConfigError>([&] { RunFolder::prepare(folder / "run", true); }),
                HasSubstr("overwrite_output_dir"))
        << record;
    EXPECT_EQ(everything(folder / "run").size(), 1U);
  }
  const TempFolder folder;
  folder.write("run/adapter/README.md", "x");
  EXPECT_THROW(RunFolder::prepare(folder / "run", true), ConfigError);
  EXPECT_EQ(everything(folder / "run").size(), 2U);
}

TEST(RunFolder, OneProcessAtATime) {
  const TempFolder folder;
  {
    auto held = RunFolder::prepare(folder / "run", false);
    const RunFolder moved(std::move(held));
    EXPECT_THAT(test::message_of<ConfigError>([&] { RunFolder::prepare(folder / "run", true); }),
                HasSubstr("another phi3-tune is writing there"));
  }
  EXPECT_NO_THROW(RunFolder::prepare(folder / "run", false));
}

TEST(RunFolder, AFileInItsPlaceIsRefused) {
  const TempFolder folder;
  const std::string path = folder.write("file", "x");
  EXPECT_THAT(test::message_of<ConfigError>([&] { RunFolder::prepare(path, true); }), HasSubstr("this is a file"));
}

TEST(RunFolder, RecordSaysWhatTheRunWas) {
  const TempFolder folder;
  auto run = RunFolder::prepare(folder / "run", false);
  run.claim({"metrics.jsonl", "adapter/README.md"});
  checkpoint::RunRecord record;
  record.run_name = "tickets";
  record.settings = {{"learning_rate", "0.0002"}, {"lora_target_modules", "[\"all-linear\"]"}, {"max_steps", "null"}};
  record.versions = checkpoint::versions("0.1.0");
  record.hashes = {{"base", "abc"}};
  record.compute = {{"threads", "2"}};
  run.write(record);
  auto json = io::read_json_file<CheckpointError>(run.file("run.json"));
  EXPECT_EQ(json["schema_version"], 1);
  EXPECT_EQ(json["status"], "running");
  EXPECT_FALSE(json.contains("ended_at"));
  EXPECT_EQ(json["settings"]["learning_rate"], 0.0002);
  EXPECT_EQ(json["settings"]["lora_target_modules"][0], "all-linear");
  EXPECT_TRUE(json["settings"]["max_steps"].is_null());
  EXPECT_EQ(json["versions"]["libtorch"], "2.11.0");
  EXPECT_EQ(json["hashes"]["base"], "abc");
  EXPECT_EQ(json["files"], io::Json({"adapter/README.md", "metrics.jsonl", "run.json"}));
  record.status = "finished";
  record.results["steps"] = 12;
  run.write(record);
  json = io::read_json_file<CheckpointError>(run.file("run.json"));
  EXPECT_EQ(json["status"], "finished");
  EXPECT_EQ(json["results"]["steps"], 12);
  EXPECT_TRUE(json.contains("ended_at"));
  EXPECT_EQ(everything(run.path()).size(), 1U);  // no temporary file stays
}

TEST(OwnedFiles, TemporaryNamesLeadToTheirFinalOnes) {
  EXPECT_EQ(checkpoint::final_name(".adapter.partial/.README.md.41-3.part"), "adapter/README.md");
  EXPECT_EQ(checkpoint::final_name("adapter/README.md"), "adapter/README.md");
  EXPECT_EQ(checkpoint::final_name(".adapter.trash/README.md"), "adapter/README.md");
  for (const char* name : {"step-000200", "step-1000200", ".step-000200.partial", ".step-000200.trash"}) {
    EXPECT_EQ(checkpoint::final_name(std::string("checkpoints/") + name + "/manifest.json"),
              "checkpoints/step-*/manifest.json");
  }
  for (const char* other : {".partial", ".part", ".x.part", ".x.1.part", ".x.-1.part", ".x.1-.part", "x.1-2.part",
                            ".1-2.part", ".README.md", ".trash", "step-200", "step-0000200", "step-", "step-00020x",
                            "step-000200.bak", "astep-000200", "step-000200.partial"}) {
    EXPECT_EQ(checkpoint::final_name(other), other);
  }
}

TEST(Fingerprint, DependsOnContentsAlone) {
  const TempFolder folder;
  const std::string large(3 << 20, 'x');
  EXPECT_EQ(checkpoint::hash_file(folder.write("a", large)), checkpoint::hash_file(folder.write("b", large)));
  EXPECT_NE(checkpoint::hash_file(folder / "a"), checkpoint::hash_file(folder.write("c", large + "y")));
  EXPECT_THROW(checkpoint::hash_file(folder / "absent"), ModelError);
  EXPECT_EQ(checkpoint::program_fingerprint(), checkpoint::program_fingerprint());
  EXPECT_EQ(checkpoint::program_fingerprint().size(), 32U);
}

}  // namespace
}  // namespace phi3tune
