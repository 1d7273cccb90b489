#include "phi3tune/checkpoint/run_folder.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <string_view>

#include "checkpoint/owned_files.h"
#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"

namespace phi3tune::checkpoint {
namespace {

namespace fs = std::filesystem;
constexpr const char* kRecordName = "run.json";

std::string utc_now() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

io::Json text_object(const Facts& facts) {
  io::Json object = io::Json::object();
  for (const auto& [name, value] : facts) {
    object[name] = value;
  }
  return object;
}

io::Json settings_object(const Facts& settings) {
  io::Json object = io::Json::object();
  for (const auto& [name, text] : settings) {
    io::JsonFault fault;
    if (!io::parse_json(text, object[name], fault)) {
      throw InternalError("internal error: the setting {} resolved to '{}', which is not JSON: {}", name, text,
                          fault.what);
    }
  }
  return object;
}

// Opens the folder and locks it for this process. Some network file systems have no locks: then there is none.
int open_locked(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) {
    const int reason = errno;
    if (reason == ENOTDIR) {
      throw ConfigError("output_dir {}: this is a file; a folder is wanted", path);
    }
    throw ResourceError("output_dir {}: cannot open the folder: {}", path, std::strerror(reason));
  }
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor);
    throw ConfigError("output_dir {}: another phi3-tune is writing there; wait for it, or name another folder", path);
  }
  return descriptor;
}

}  // namespace

RunFolder RunFolder::prepare(const std::string& path, bool overwrite) {
  std::error_code code;
  if (fs::exists(path, code) && !fs::is_directory(path, code)) {
    throw ConfigError("output_dir {}: this is a file; a folder is wanted", path);
  }
  io::make_directories(path);
  RunFolder folder(path, open_locked(path));
  folder.started_at_ = utc_now();
  const bool empty = fs::is_empty(path, code);
  if (code) {
    throw ResourceError("output_dir {}: cannot list the folder: {}", path, code.message());
  }
  if (!empty && !overwrite) {
    throw ConfigError(
        "output_dir {}: there is something in it already; name another folder, or set overwrite_output_dir: true to "
        "delete what an earlier run wrote there (nothing else is ever deleted)",
        path);
  }
  if (!empty) {
    delete_owned_files(path, kRecordName);
  }
  folder.files_.insert(kRecordName);
  return folder;
}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : path_(std::move(other.path_)),
      lock_(std::exchange(other.lock_, -1)),
      files_(std::move(other.files_)),
      started_at_(std::move(other.started_at_)) {}

RunFolder::~RunFolder() {
  if (lock_ >= 0) {
    ::close(lock_);
  }
}

void RunFolder::claim(const std::vector<std::string>& names) { files_.insert(names.begin(), names.end()); }

void RunFolder::write(const RunRecord& record) {
  io::Json json = io::Json::object();
  json["schema_version"] = 1;
  json["program"] = kProgramName;
  json["status"] = record.status;
  json["run_name"] = record.run_name;
  json["started_at"] = started_at_;
  if (record.status != "running") {
    json["ended_at"] = utc_now();
  }
  json["versions"] = text_object(record.versions);
  json["hashes"] = text_object(record.hashes);
  json["compute"] = text_object(record.compute);
  json["settings"] = settings_object(record.settings);
  json["results"] = record.results;
  json["files"] = files_;
  io::write_file_atomically(file(kRecordName), json.dump(2, ' ', false, io::Json::error_handler_t::replace) + "\n");
}

}  // namespace phi3tune::checkpoint
