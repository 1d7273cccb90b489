// A folder that is whole or absent: filled as ".<name>.partial" beside its place, then renamed.
#pragma once

#include <string>
#include <vector>

namespace phi3tune::checkpoint {

class StagedFolder {
 public:
  // Throws ResourceError when `folder`, or what an earlier attempt left of it, exists.
  explicit StagedFolder(std::string folder);
  // Without commit(): removes the files it handed out and the staged folder.
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  // Where to write the file of that name; the writer must make it durable.
  std::string file(const std::string& name);
  const std::string& path() const noexcept { return staged_; }
  void commit();

 private:
  std::string folder_;
  std::string staged_;
  std::vector<std::string> files_;
  bool committed_ = false;
};

// ".adapter.partial" for "adapter".
std::string staged_name(const std::string& name);

}  // namespace phi3tune::checkpoint
