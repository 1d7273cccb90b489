// A folder that is whole or absent: filled as ".<name>.partial" beside its place, then renamed.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "phi3tune/io/made_folders.h"

namespace phi3tune::checkpoint {

class StagedFolder {
 public:
  // `names`: of all files that will be written. What an earlier attempt that was cut short left under the staged name
  // is deleted if it holds such files alone. Throws ResourceError, also when `folder` exists.
  // `replaces`: it may exist, and goes as ".<name>.trash" when the new one is whole.
  StagedFolder(std::string folder, std::set<std::string> names, bool replaces = false);
  // Without commit(): removes the files it named, the staged folder, and folders above it that it made.
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  // Where to write the file of that name; the writer must make it durable.
  std::string file(const std::string& name) const;
  const std::string& path() const noexcept { return staged_; }
  // Makes the names in it durable, puts it in place and makes that durable. When it throws, nothing is in place.
  void commit();

 private:
  std::string folder_;
  std::string staged_;
  std::optional<io::MadeFolders> parents_;
  std::set<std::string> names_;
  bool replaces_;
  bool committed_ = false;
};

}  // namespace phi3tune::checkpoint
