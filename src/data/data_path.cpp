// The files that a dataset's path means.
#include <fmt/format.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "phi3tune/core/error.h"
#include "phi3tune/data/record_reader.h"

namespace phi3tune::data {
namespace {

bool is_regular(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

std::vector<std::string> files_of_folder(const std::string& folder, std::vector<std::string>* left_out) {
  std::error_code error;
  std::vector<std::string> files;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string path = entry->path().string();
    if ((path.ends_with(".jsonl") || path.ends_with(".json")) && is_regular(path)) {
      files.push_back(path);
    } else if (const std::string name = entry->path().filename().string(); left_out != nullptr && name[0] != '.') {
      std::error_code unknown;
      left_out->push_back(std::filesystem::is_directory(path, unknown) ? name + "/" : name);
    }
  }
  if (error) {
    throw DataError("{}: the folder cannot be read: {}", folder, error.message());
  }
  if (files.empty()) {
    throw DataError("{}: the folder holds no .jsonl or .json file", folder);
  }
  return files;
}

std::vector<std::string> files_of_pattern(const std::string& pattern) {
  glob_t found{};
  const int result = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> files;
  for (size_t i = 0; result == 0 && i < found.gl_pathc; ++i) {
    if (is_regular(found.gl_pathv[i])) {
      files.emplace_back(found.gl_pathv[i]);
    }
  }
  ::globfree(&found);
  if (result != 0 && result != GLOB_NOMATCH) {
    throw DataError("{}: the pattern cannot be matched: a folder cannot be read", pattern);
  }
  if (files.empty()) {
    throw DataError("{}: no file matches the pattern", pattern);
  }
  return files;
}

}  // namespace

std::vector<std::string> expand_data_path(const std::string& path, std::vector<std::string>* left_out) {
  struct stat status {};
  std::vector<std::string> files;
  if (::stat(path.c_str(), &status) == 0) {
    if (!S_ISDIR(status.st_mode)) {
      return {path};  // what is no regular file is refused when it is opened
    }
    files = files_of_folder(path, left_out);
    if (left_out != nullptr) {
      std::sort(left_out->begin(), left_out->end());
    }
  } else if (path.find_first_of("*?[") != std::string::npos) {
    files = files_of_pattern(path);
  } else {
    throw DataError("{}: cannot be opened: {}; wanted a file, a pattern or a folder", path,
                    std::generic_category().message(errno));
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace phi3tune::data
