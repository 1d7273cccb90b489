#include "phi3tune/io/folder.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "phi3tune/core/error.h"

namespace phi3tune::io {

template <typename ErrorType>
std::vector<std::string> names_in(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  std::error_code code;
  fs::directory_iterator it(folder, code);
  for (; !code && it != fs::directory_iterator(); it.increment(code)) {
    names.push_back(it->path().filename().string());
  }
  if (code && code != std::errc::no_such_file_or_directory) {
    throw ErrorType("{}: cannot list the folder: {}", folder, code.message());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string parent_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::string without_trailing_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') {
    path.pop_back();
  }
  return path;
}

std::string nearest_there(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code code;
  fs::path place = fs::absolute(without_trailing_slash(path), code);
  while (!fs::exists(place, code) && place != place.root_path()) {
    place = place.parent_path();
  }
  return place.string();
}

uint64_t free_bytes(const std::string& path, std::error_code& code) {
  return std::filesystem::space(nearest_there(path), code).available;
}

template std::vector<std::string> names_in<ResourceError>(const std::string&);
template std::vector<std::string> names_in<CheckpointError>(const std::string&);

}  // namespace phi3tune::io
