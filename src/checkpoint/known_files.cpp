#include "checkpoint/known_files.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "checkpoint/owned_files.h"
#include "phi3tune/core/error.h"

namespace phi3tune::checkpoint {
namespace {

namespace fs = std::filesystem;

struct Contents {
  std::vector<std::string> known;
  std::vector<std::string> foreign;
};

Contents look_through(const std::string& folder, const std::set<std::string>& names) {
  Contents contents;
  std::error_code code;
  fs::directory_iterator it(folder, code);
  for (; !code && it != fs::directory_iterator(); it.increment(code)) {
    const std::string name = it->path().filename().string();
    std::error_code status_code;
    const bool regular = it->symlink_status(status_code).type() == fs::file_type::regular;
    const bool known = regular && names.contains(final_name(name));
    (known ? contents.known : contents.foreign).push_back(name);
  }
  if (code) {
    throw ResourceError("{}: cannot list the folder: {}", folder, code.message());
  }
  std::sort(contents.known.begin(), contents.known.end());
  std::sort(contents.foreign.begin(), contents.foreign.end());
  return contents;
}

}  // namespace

std::vector<std::string> foreign_names(const std::string& folder, const std::set<std::string>& names) {
  return look_through(folder, names).foreign;
}

std::vector<std::string> delete_known_files(const std::string& folder, const std::set<std::string>& names,
                                            const std::string& first) {
  Contents contents = look_through(folder, names);
  std::stable_partition(contents.known.begin(), contents.known.end(),
                        [&](const std::string& name) { return name == first; });
  for (const std::string& name : contents.known) {
    const std::string path = folder + "/" + name;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
      throw ResourceError("{}: cannot delete: {}", path, std::strerror(errno));
    }
  }
  if (contents.foreign.empty() && ::rmdir(folder.c_str()) != 0 && errno != ENOENT) {
    throw ResourceError("{}: cannot delete the folder: {}", folder, std::strerror(errno));
  }
  return contents.foreign;
}

void delete_temporaries(const std::string& folder, const std::set<std::string>& names) {
  for (const std::string& name : look_through(folder, names).known) {
    const std::string path = folder + "/" + name;
    if (!names.contains(name) && ::unlink(path.c_str()) != 0 && errno != ENOENT) {
      throw ResourceError("{}: cannot delete: {}", path, std::strerror(errno));
    }
  }
}

std::string name_some(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  std::string text;
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  return names.size() > kShown ? text + fmt::format(" and {} more", names.size() - kShown) : text;
}

}  // namespace phi3tune::checkpoint
