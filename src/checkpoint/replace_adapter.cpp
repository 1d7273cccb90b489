#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>

#include "checkpoint/known_files.h"
#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/io/atomic_file.h"

namespace phi3tune::checkpoint {
namespace {

namespace fs = std::filesystem;

void delete_trash(const std::string& trash, const std::set<std::string>& names) {
  std::error_code code;
  if (!fs::exists(fs::symlink_status(trash, code))) {
    return;
  }
  if (const auto stays = delete_known_files(trash, names); !stays.empty()) {
    log_warning("{}: kept, as it holds what phi3-tune did not write ({})", trash, name_some(stays));
  }
}

}  // namespace

void replace_adapter(const std::string& folder, const model::LoraAdapters& adapters, const AdapterFiles& files) {
  const fs::path path(folder);
  const auto parent = path.parent_path().string();
  const auto trash = (path.parent_path() / ("." + path.filename().string() + ".trash")).string();
  const auto listed = adapter_file_names(files);
  const std::set<std::string> names(listed.begin(), listed.end());
  delete_trash(trash, names);
  std::error_code code;
  const bool replaces = fs::exists(fs::symlink_status(path, code));
  if (replaces && std::rename(folder.c_str(), trash.c_str()) != 0) {
    throw ResourceError("{}: cannot be moved away for its successor: {}", folder, std::strerror(errno));
  }
  try {
    save_adapter(folder, adapters, files);
  } catch (const Error&) {
    if (replaces && !fs::exists(fs::symlink_status(path, code))) {
      (void)std::rename(trash.c_str(), folder.c_str());  // the error that is on its way says more
    }
    throw;
  }
  if (replaces) {
    delete_trash(trash, names);
    io::sync_directory(parent.empty() ? "." : parent);
  }
}

}  // namespace phi3tune::checkpoint
