#include "checkpoint/staged_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"

namespace phi3tune::checkpoint {
namespace {

namespace fs = std::filesystem;

std::string without_trailing_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') {
    path.pop_back();
  }
  return path;
}

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

std::string staged_name(const std::string& name) { return "." + name + ".partial"; }

StagedFolder::StagedFolder(std::string folder) : folder_(without_trailing_slash(std::move(folder))) {
  const fs::path final_path(folder_);
  staged_ = (final_path.parent_path() / staged_name(final_path.filename().string())).string();
  std::error_code code;
  if (fs::exists(fs::symlink_status(final_path, code))) {
    throw ResourceError("{}: cannot save here: it exists already; nothing is written over it", folder_);
  }
  io::make_directories(parent_of(folder_));
  if (::mkdir(staged_.c_str(), 0777) != 0) {
    const int reason = errno;
    throw ResourceError("{}: cannot make {} to fill it: {}{}", folder_, staged_, std::strerror(reason),
                        reason == EEXIST ? "; an attempt that was cut short left it, remove it" : "");
  }
}

StagedFolder::~StagedFolder() {
  if (!committed_) {
    for (const std::string& file : files_) {
      ::unlink(file.c_str());
    }
    ::rmdir(staged_.c_str());
  }
}

std::string StagedFolder::file(const std::string& name) {
  files_.push_back(staged_ + "/" + name);
  return files_.back();
}

void StagedFolder::commit() {
  io::sync_directory(staged_);
  if (std::rename(staged_.c_str(), folder_.c_str()) != 0) {
    throw ResourceError("{}: cannot put it in place: {}", folder_, std::strerror(errno));
  }
  committed_ = true;
  io::sync_directory(parent_of(folder_));
}

}  // namespace phi3tune::checkpoint
