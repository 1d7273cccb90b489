#include "checkpoint/staged_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "checkpoint/known_files.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/folder.h"

namespace phi3tune::checkpoint {
namespace {

namespace fs = std::filesystem;

void require_free(const std::string& folder) {
  struct stat status {};
  if (::lstat(folder.c_str(), &status) == 0) {
    throw ResourceError("{}: cannot save here: it exists already; nothing is written over it", folder);
  }
  if (errno != ENOENT && errno != ENOTDIR) {
    throw ResourceError("{}: cannot save here: {}", folder, std::strerror(errno));
  }
}

void delete_leftover(const std::string& folder, const std::string& staged, const std::set<std::string>& names) {
  struct stat status {};
  const bool is_folder = ::lstat(staged.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
  const std::string foreign = is_folder ? name_some(foreign_names(staged, names)) : "it is no folder";
  if (!foreign.empty()) {
    throw ResourceError("{}: cannot save here: {} is in the way, and not only of our making ({}); move it away", folder,
                        staged, foreign);
  }
  delete_known_files(staged, names);
}

void delete_trash(const std::string& trash, const std::set<std::string>& names) {
  if (const auto stays = delete_known_files(trash, names); !stays.empty()) {
    log_warning("{}: kept, as it holds what phi3-tune did not write ({})", trash, name_some(stays));
  }
}

// What is in place of the folder to come; false when nothing is.
bool put_aside(const std::string& folder, const std::string& trash, const std::set<std::string>& names) {
  struct stat status {};
  if (::lstat(trash.c_str(), &status) == 0) {
    delete_trash(trash, names);
  }
  if (::lstat(folder.c_str(), &status) != 0) {
    return false;
  }
  if (std::rename(folder.c_str(), trash.c_str()) != 0) {
    throw ResourceError("{}: cannot be moved away for its successor: {}", folder, std::strerror(errno));
  }
  return true;
}

}  // namespace

StagedFolder::StagedFolder(std::string folder, std::set<std::string> names, bool replaces)
    : folder_(io::without_trailing_slash(std::move(folder))), names_(std::move(names)), replaces_(replaces) {
  const fs::path final_path(folder_);
  staged_ = (final_path.parent_path() / config::staged_name(final_path.filename().string())).string();
  if (!replaces_) {
    require_free(folder_);
  }
  parents_.emplace(io::parent_of(folder_));
  int code = ::mkdir(staged_.c_str(), 0777) == 0 ? 0 : errno;
  if (code == EEXIST) {
    delete_leftover(folder_, staged_, names_);
    code = ::mkdir(staged_.c_str(), 0777) == 0 ? 0 : errno;
  }
  if (code != 0) {
    throw ResourceError("{}: cannot make the folder {} to fill it: {}", folder_, staged_, std::strerror(code));
  }
}

StagedFolder::~StagedFolder() {
  if (!committed_) {
    for (const std::string& name : names_) {
      ::unlink(file(name).c_str());
    }
    ::rmdir(staged_.c_str());
  }
}

std::string StagedFolder::file(const std::string& name) const {
  require(names_.contains(name), "a file is staged that was not named");
  return staged_ + "/" + name;
}

void StagedFolder::commit() {
  io::sync_directory(staged_);
  const fs::path final_path(folder_);
  const std::string trash = (final_path.parent_path() / config::trash_name(final_path.filename().string())).string();
  const bool moved = replaces_ && put_aside(folder_, trash, names_);
  if (std::rename(staged_.c_str(), folder_.c_str()) != 0) {
    const int code = errno;
    if (moved) {
      (void)std::rename(trash.c_str(), folder_.c_str());
    }
    throw ResourceError("{}: cannot put it in place: {}", folder_, std::strerror(code));
  }
  committed_ = true;
  try {
    io::sync_directory(io::parent_of(folder_));
  } catch (const ResourceError&) {
    // It might not survive a power cut, so it is not there: taken back, to be deleted. A disk that is too full for
    // another name still lets names go.
    committed_ = std::rename(folder_.c_str(), staged_.c_str()) != 0;
    if (committed_ && !moved) {
      staged_ = folder_;
      committed_ = false;
    }
    if (moved && !committed_) {
      (void)std::rename(trash.c_str(), folder_.c_str());
    }
    throw;
  }
  parents_->keep();
  if (moved) {
    delete_trash(trash, names_);
  }
}

}  // namespace phi3tune::checkpoint
