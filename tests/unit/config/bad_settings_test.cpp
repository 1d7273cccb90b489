// Every file of bad/ is refused with exactly the faults that its `# expect` lines state: place, then parts of the text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "phi3tune/config/settings.h"
#include "phi3tune/core/error.h"

namespace phi3tune::config {
namespace {

constexpr size_t kFiles = 82;

struct BadFile {
  std::string path;
  std::vector<std::vector<std::string>> expected;  // of one line of the report each: its parts, the place first
};

std::vector<std::string> split(std::string text, const std::string& separator) {
  std::vector<std::string> parts;
  for (size_t end = text.find(separator); end != std::string::npos; end = text.find(separator)) {
    parts.push_back(text.substr(0, end));
    text = text.substr(end + separator.size());
  }
  parts.push_back(text);
  return parts;
}

std::vector<BadFile> bad_files() {
  std::vector<BadFile> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(PHI3TUNE_SOURCE_DIR) + "/tests/unit/config/bad")) {
    BadFile file{entry.path().string(), {}};
    std::ifstream stream(file.path);
    for (std::string line; std::getline(stream, line);) {
      if (line.starts_with("# expect ")) {
        auto parts = split(line.substr(9), " ... ");
        // "-: text": a fault without a line.
        parts[0] = parts[0].starts_with("-: ") ? file.path + parts[0].substr(1) : file.path + ":" + parts[0];
        file.expected.push_back(parts);
      }
    }
    files.push_back(file);
  }
  return files;
}

std::string report_of(const std::string& file) {
  try {
    (void)load_settings({.files = {file}});
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
    return error.what();
  }
  return {};
}

TEST(BadSettings, EachFileIsRefusedWithItsFaultsAndPlaces) {
  const auto files = bad_files();
  EXPECT_EQ(files.size(), kFiles);
  for (const auto& file : files) {
    SCOPED_TRACE(file.path);
    const auto report = report_of(file.path);
    const auto lines = split(report, "\n");
    EXPECT_FALSE(file.expected.empty());
    EXPECT_EQ(lines.size(), file.expected.size()) << report;
    for (size_t i = 0; i < std::min(lines.size(), file.expected.size()); ++i) {
      EXPECT_THAT(lines[i], testing::StartsWith(file.expected[i].front()));
      for (const auto& part : file.expected[i]) {
        EXPECT_THAT(lines[i], testing::HasSubstr(part));
      }
    }
  }
}

TEST(BadSettings, FaultsOfAllSourcesComeInOneReport) {
  const std::string folder = std::string(PHI3TUNE_SOURCE_DIR) + "/tests/unit/config/bad/";
  try {
    (void)load_settings({.files = {folder + "unknown_key.yaml", folder + "zero_steps.yaml"},
                         .overrides = {{"lora_alpha", "none"}, {"lora_drpout", "0"}}});
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("unknown_key.yaml:4:1: lora_rnak"));
    EXPECT_THAT(error.what(), testing::HasSubstr("zero_steps.yaml:4:12: max_steps"));
    EXPECT_THAT(error.what(), testing::HasSubstr("command line: lora_alpha: found \"none\""));
    EXPECT_THAT(error.what(),
                testing::HasSubstr("command line: lora_drpout is not a setting; did you mean lora_dropout?"));
  }
}

TEST(BadSettings, AMissingFileIsNamed) {
  EXPECT_THAT(report_of("/nowhere/run.yaml"), testing::HasSubstr("/nowhere/run.yaml"));
}

}  // namespace
}  // namespace phi3tune::config
