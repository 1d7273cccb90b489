#include "checkpoint/owned_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <vector>

#include "checkpoint/known_files.h"
#include "phi3tune/checkpoint/checkpoints.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/json.h"

namespace phi3tune::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEveryCheckpoint = "step-*";

bool is_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// "README.md" for ".README.md.41-3.part" (io::AtomicFile's temporary names), "adapter" for ".adapter.partial" and
// ".adapter.trash".
std::string without_disguise(const std::string& name) {
  const std::string_view text(name);
  for (const std::string_view ending : {".partial", ".trash"}) {
    if (text.size() > ending.size() + 1 && text.front() == '.' && text.ends_with(ending)) {
      return std::string(text.substr(1, text.size() - 1 - ending.size()));
    }
  }
  constexpr std::string_view kPart = ".part";
  if (text.size() > kPart.size() + 1 && text.front() == '.' && text.ends_with(kPart)) {
    const std::string_view inner = text.substr(1, text.size() - 1 - kPart.size());  // "README.md.41-3"
    const size_t dot = inner.rfind('.');
    const size_t dash = inner.rfind('-');
    if (dot != std::string_view::npos && dot > 0 && dash != std::string_view::npos && dash > dot &&
        is_digits(inner.substr(dot + 1, dash - dot - 1)) && is_digits(inner.substr(dash + 1))) {
      return std::string(inner.substr(0, dot));
    }
  }
  return name;
}

// What a component is listed as: every checkpoint as one.
std::string final_component(const std::string& name) {
  const std::string final = without_disguise(name);
  return config::step_of_checkpoint(final) ? kEveryCheckpoint : final;
}

std::set<std::string> listed_files(const std::string& folder, const std::string& record) {
  const std::string path = folder + "/" + record;
  const std::string refusal = fmt::format(
      "output_dir {}: overwrite_output_dir deletes only what an earlier run of phi3-tune wrote, and there is no sound "
      "{} that lists it; name another folder, or empty this one by hand",
      folder, record);
  std::error_code code;
  if (!fs::is_regular_file(fs::symlink_status(path, code))) {
    throw ConfigError(refusal);
  }
  io::Json json;
  try {
    json = io::read_json_file<ConfigError>(path);
  } catch (const ConfigError& error) {
    throw ConfigError("{}\n{}", refusal, error.what());
  }
  if (!json.is_object() || !json.contains("program") || json["program"] != kProgramName || !json.contains("files") ||
      !json["files"].is_array()) {
    throw ConfigError(refusal);
  }
  std::set<std::string> files{record};
  for (const io::Json& file : json["files"]) {
    if (!file.is_string()) {
      throw ConfigError(refusal);
    }
    files.insert(file.get<std::string>());
  }
  return files;
}

struct Contents {
  std::vector<std::string> owned;    // files
  std::vector<std::string> folders;  // parents before children
  std::vector<std::string> foreign;
};

Contents look_through(const std::string& folder, const std::set<std::string>& listed) {
  std::set<std::string> parents;
  for (const std::string& file : listed) {
    for (fs::path parent = fs::path(file).parent_path(); !parent.empty() && parent != parent.root_path();
         parent = parent.parent_path()) {
      parents.insert(parent.string());
    }
  }
  Contents contents;
  std::error_code code;
  fs::recursive_directory_iterator it(folder, code);
  for (; !code && it != fs::recursive_directory_iterator(); it.increment(code)) {
    const std::string relative = it->path().lexically_relative(folder).string();
    std::error_code status_code;
    const fs::file_type type = it->symlink_status(status_code).type();
    if (type == fs::file_type::directory && parents.contains(final_name(relative))) {
      contents.folders.push_back(relative);
    } else if (type == fs::file_type::regular && listed.contains(final_name(relative))) {
      contents.owned.push_back(relative);
    } else {
      contents.foreign.push_back(relative);
      if (type == fs::file_type::directory) {
        it.disable_recursion_pending();
      }
    }
  }
  if (code) {
    throw ResourceError("output_dir {}: cannot list the folder: {}", folder, code.message());
  }
  return contents;
}

void remove(const std::string& path) {
  std::error_code code;
  fs::remove(path, code);
  if (code) {
    throw ResourceError("{}: cannot delete: {}", path, code.message());
  }
}

}  // namespace

std::string final_name(const std::string& relative) {
  fs::path result;
  for (const fs::path& component : fs::path(relative)) {
    result /= final_component(component.string());
  }
  return result.string();
}

std::vector<std::string> checkpoint_claims() {
  std::vector<std::string> claims;
  for (const std::string& name : checkpoint_file_names()) {
    claims.push_back(fmt::format("{}/{}/{}", config::kCheckpointsFolder, kEveryCheckpoint, name));
  }
  return claims;
}

void delete_owned_files(const std::string& folder, const std::string& record) {
  Contents contents = look_through(folder, listed_files(folder, record));
  if (!contents.foreign.empty()) {
    std::sort(contents.foreign.begin(), contents.foreign.end());
    throw ConfigError(
        "output_dir {}: it holds what phi3-tune did not write ({}), so nothing was deleted; move that away, or name "
        "another folder",
        folder, name_some(contents.foreign));
  }
  for (const std::string& file : contents.owned) {
    if (file != record) {
      remove(folder + "/" + file);
    }
  }
  for (auto it = contents.folders.rbegin(); it != contents.folders.rend(); ++it) {
    remove(folder + "/" + *it);
  }
  io::sync_directory(folder);
  remove(folder + "/" + record);
  io::sync_directory(folder);
}

}  // namespace phi3tune::checkpoint
