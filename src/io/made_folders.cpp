#include "phi3tune/io/made_folders.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/folder.h"

namespace phi3tune::io {

// Delegates, so that what was made before a failure goes too.
MadeFolders::MadeFolders(const std::string& path) : MadeFolders() {
  std::vector<std::string> missing;
  struct stat status {};
  for (auto each = without_trailing_slash(path); ::lstat(each.c_str(), &status) != 0;) {
    missing.push_back(each);
    const auto above = parent_of(each);
    if (above == each) {
      break;  // "." in a folder that may not be looked into
    }
    each = above;
  }
  for (; !missing.empty(); missing.pop_back()) {
    const auto& folder = missing.back();
    if (::mkdir(folder.c_str(), 0777) == 0) {
      made_.push_back(folder);
    } else if (errno != EEXIST) {
      throw ResourceError("{}: cannot create the folder: {}", folder, std::strerror(errno));
    }
    sync_directory(parent_of(folder));
  }
}

MadeFolders::~MadeFolders() {
  for (; !made_.empty(); made_.pop_back()) {
    ::rmdir(made_.back().c_str());
  }
}

}  // namespace phi3tune::io
