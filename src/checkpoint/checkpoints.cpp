#include "phi3tune/checkpoint/checkpoints.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
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

std::set<std::string> own_names() {
  const auto names = checkpoint_file_names();
  return {names.begin(), names.end()};
}

bool is_folder(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool is_leftover(const std::string& name) {
  for (const std::string_view ending : {".partial", ".trash"}) {
    if (name.size() > ending.size() + 1 && name.front() == '.' && name.ends_with(ending)) {
      return config::step_of_checkpoint(name.substr(1, name.size() - 1 - ending.size())).has_value();
    }
  }
  return false;
}

std::string joined_lines(std::string text) {
  for (size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at)) {
    text.replace(at, 1, "; ");
  }
  return text;
}

// Why a checkpoint must not be deleted; empty when it may be.
std::string why_it_stays(const std::string& path) {
  if (!is_folder(path)) {
    return "it is no folder";
  }
  if (const auto foreign = foreign_names(path, own_names()); !foreign.empty()) {
    return "it holds what phi3-tune did not write: " + name_some(foreign);
  }
  try {
    const io::Manifest manifest = io::read_manifest(path);
    return manifest.kind == config::kCheckpointKind ? "" : "its manifest is of no checkpoint";
  } catch (const CheckpointError& error) {
    return joined_lines(error.what());
  }
}

}  // namespace

Checkpoints::Checkpoints(std::string folder) : folder_(std::move(folder)) { io::names_in<ResourceError>(folder_); }

std::string Checkpoints::path_of(int64_t step) const { return folder_ + "/" + checkpoint_name(step); }

std::vector<int64_t> Checkpoints::steps() const {
  std::vector<int64_t> steps;
  for (const std::string& name : io::names_in<ResourceError>(folder_)) {
    if (const auto step = config::step_of_checkpoint(name)) {
      steps.push_back(*step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void Checkpoints::clean() const {
  for (const std::string& name : io::names_in<ResourceError>(folder_)) {
    const std::string path = folder_ + "/" + name;
    if (!is_leftover(name)) {
      continue;
    }
    const auto stays = is_folder(path) ? delete_known_files(path, own_names()) : std::vector{name};
    if (!stays.empty()) {
      log_warning("{}: left by a run that was cut short, and not deleted: it holds what phi3-tune did not write ({})",
                  path, name_some(stays));
    }
  }
}

Checkpoints::Found Checkpoints::find_newest() const {
  Found found;
  std::vector<int64_t> newest_first = steps();
  std::reverse(newest_first.begin(), newest_first.end());
  for (const int64_t step : newest_first) {
    try {
      found.newest = verify_checkpoint(path_of(step));
      break;
    } catch (const CheckpointError& error) {
      found.skipped.push_back(joined_lines(error.what()));
    }
  }
  return found;
}

void Checkpoints::retire(int64_t step) const {
  const std::string path = path_of(step);
  const std::string trash = folder_ + "/" + config::trash_name(checkpoint_name(step));
  if (is_folder(trash)) {
    delete_known_files(trash, own_names());
  }
  // The name goes first: what is half deleted never looks like a checkpoint.
  if (std::rename(path.c_str(), trash.c_str()) != 0) {
    throw ResourceError("{}: cannot put it aside as {} to delete it: {}", path, trash, std::strerror(errno));
  }
  io::sync_directory(folder_);
  if (const auto stays = delete_known_files(trash, own_names(), io::kManifestName); !stays.empty()) {
    log_warning("{}: not deleted: it holds what phi3-tune did not write ({})", trash, name_some(stays));
  }
}

std::vector<int64_t> Checkpoints::rotate(int64_t newest, int64_t limit, std::optional<int64_t> best) const {
  std::vector<int64_t> ours;
  for (const int64_t step : steps()) {
    if (step > newest) {
      continue;
    }
    const std::string reason = why_it_stays(path_of(step));
    if (reason.empty()) {
      ours.push_back(step);
    } else if (limit > 0) {
      log_warning("{}: does not count among the checkpoints to keep and is not deleted: {}", path_of(step), reason);
    }
  }
  const std::vector<int64_t> gone = to_rotate(std::move(ours), limit, best);
  for (const int64_t step : gone) {
    retire(step);
  }
  return gone;
}

void Checkpoints::make_room(int64_t step) const {
  const std::string path = path_of(step);
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) {
      return;
    }
    throw ResourceError("{}: cannot be looked at: {}", path, std::strerror(errno));
  }
  const std::string foreign = is_folder(path) ? name_some(foreign_names(path, own_names())) : "it is no folder";
  if (!foreign.empty()) {
    throw ResourceError("{}: a checkpoint is to be saved there, and something else is in it ({}); move it away", path,
                        foreign);
  }
  retire(step);
}

}  // namespace phi3tune::checkpoint
