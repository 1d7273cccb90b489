#include "phi3tune/checkpoint/report_folder.h"

#include <filesystem>
#include <set>

#include "checkpoint/known_files.h"
#include "checkpoint/staged_folder.h"
#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"

namespace phi3tune::checkpoint {

void require_own_report(const std::string& folder, const std::vector<std::string>& names) {
  namespace fs = std::filesystem;
  std::error_code code;
  const auto status = fs::symlink_status(folder, code);
  if (!fs::exists(status)) {
    return;
  }
  if (!fs::is_directory(status)) {
    throw ConfigError("{}: the report is to be a folder of that name, and something else is there", folder);
  }
  if (const auto foreign = foreign_names(folder, {names.begin(), names.end()}); !foreign.empty()) {
    throw ConfigError(
        "{}: the report is to be written there, and it holds what phi3-tune did not write ({}); name another "
        "folder with --out",
        folder, name_some(foreign));
  }
}

void write_report(const std::string& folder, const std::vector<std::pair<std::string, std::string>>& files) {
  std::set<std::string> names;
  for (const auto& [name, text] : files) {
    names.insert(name);
  }
  StagedFolder staged(folder, names, true);
  for (const auto& [name, text] : files) {
    io::write_fresh_file(staged.file(name), text);
  }
  staged.commit();
}

}  // namespace phi3tune::checkpoint
