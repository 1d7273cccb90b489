// Folders made on the way to a result, which go with it when it fails.
#pragma once

#include <string>
#include <vector>

namespace phi3tune::io {

class MadeFolders {
 public:
  // Makes the folder and those above it that are not there, each name durable. Throws ResourceError.
  explicit MadeFolders(const std::string& path);
  // Without keep(): removes those it made; one that holds something by now stays.
  ~MadeFolders();
  MadeFolders(const MadeFolders&) = delete;
  MadeFolders& operator=(const MadeFolders&) = delete;

  void keep() noexcept { made_.clear(); }

 private:
  MadeFolders() = default;

  std::vector<std::string> made_;  // outermost first
};

}  // namespace phi3tune::io
