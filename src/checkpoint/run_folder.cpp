#include "phi3tune/checkpoint/run_folder.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <string_view>

#include "checkpoint/known_files.h"
#include "checkpoint/owned_files.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"

namespace phi3tune::checkpoint {
namespace {

namespace fs = std::filesystem;

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

const io::Json& object_in(const io::Json& json, const char* name, const std::string& place) {
  const auto member = json.find(name);
  if (member == json.end() || !member->is_object()) {
    throw CheckpointError("{}: {}: an object is wanted, and it is not there", place, name);
  }
  return *member;
}

Facts text_facts(const io::Json& json, const char* name, const std::string& place) {
  Facts facts;
  for (const auto& [key, value] : object_in(json, name, place).items()) {
    if (!value.is_string()) {
      throw CheckpointError("{}: {}.{}: found {}, a text is wanted", place, name, key, value.dump());
    }
    facts.emplace_back(key, value.get<std::string>());
  }
  return facts;
}

Facts setting_facts(const io::Json& json, const char* name, const std::string& place) {
  Facts facts;
  for (const auto& [key, value] : object_in(json, name, place).items()) {
    facts.emplace_back(key, value.dump());
  }
  return facts;
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
  const bool made = !fs::exists(path, code);
  io::make_directories(path);
  RunFolder folder(path, open_locked(path));
  folder.made_ = made;
  folder.started_at_ = utc_now();
  delete_temporaries(path, {config::kRecordName});  // of a run that was killed before it had written its record
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
    delete_owned_files(path, config::kRecordName);
  }
  folder.files_.insert(config::kRecordName);
  return folder;
}

RunFolder RunFolder::reopen(const std::string& path, bool any_version) {
  RunFolder folder(path, open_locked(path));
  const std::string place = path + "/" + config::kRecordName;
  const auto json = io::read_json_file<ConfigError>(place);
  const auto text = [&](const char* name) {
    return json.is_object() && json.contains(name) && json[name].is_string() ? json[name].get<std::string>() : "";
  };
  if (text("program") != kProgramName || !json.contains("files") || !json["files"].is_array()) {
    throw ConfigError("{}: not the record of a run of {}; name another output_dir", place, kProgramName);
  }
  try {
    folder.earlier_ = identity_from(json, place);
  } catch (const CheckpointError& fault) {
    if (!any_version) {
      throw ConfigError("{}\nname another output_dir, or set overwrite_output_dir: true to start again", fault.what());
    }
  }
  folder.earlier_.status = text("status");
  const auto results = json.find("results");
  folder.earlier_.results = results != json.end() && results->is_object() ? *results : io::Json::object();
  folder.started_at_ = text("started_at");
  for (const io::Json& file : json["files"]) {
    if (file.is_string()) {
      folder.files_.insert(file.get<std::string>());
    }
  }
  folder.files_.insert(config::kRecordName);
  delete_temporaries(path, folder.files_);
  folder.reopened_ = true;
  return folder;
}

void RunFolder::start_over() {
  delete_owned_files(path_, config::kRecordName);
  files_ = {config::kRecordName};
  earlier_ = {};
  reopened_ = false;
  started_at_ = utc_now();
}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : path_(std::move(other.path_)),
      lock_(std::exchange(other.lock_, -1)),
      files_(std::move(other.files_)),
      started_at_(std::move(other.started_at_)),
      earlier_(std::move(other.earlier_)),
      reopened_(other.reopened_),
      made_(std::exchange(other.made_, false)) {}

RunFolder::~RunFolder() {
  if (made_) {
    ::rmdir(path_.c_str());
  }
  if (lock_ >= 0) {
    ::close(lock_);
  }
}

void RunFolder::claim(const std::vector<std::string>& names) { files_.insert(names.begin(), names.end()); }

const std::string* find_fact(const Facts& facts, std::string_view name) {
  const auto entry = std::find_if(facts.begin(), facts.end(), [&](const auto& fact) { return fact.first == name; });
  return entry == facts.end() ? nullptr : &entry->second;
}

io::Json identity_json(const RunRecord& record) {
  io::Json json = io::Json::object();
  json["run_name"] = record.run_name;
  json["versions"] = text_object(record.versions);
  json["hashes"] = text_object(record.hashes);
  json["compute"] = text_object(record.compute);
  json["settings"] = settings_object(record.settings);
  json["requested"] = settings_object(record.requested);
  return json;
}

RunRecord identity_from(const io::Json& json, const std::string& place) {
  if (!json.is_object() || !json.contains("run_name") || !json["run_name"].is_string()) {
    throw CheckpointError("{}: run_name: a text is wanted, and it is not there", place);
  }
  RunRecord record;
  record.run_name = json["run_name"].get<std::string>();
  record.versions = text_facts(json, "versions", place);
  record.hashes = text_facts(json, "hashes", place);
  record.compute = text_facts(json, "compute", place);
  record.settings = setting_facts(json, "settings", place);
  record.requested = setting_facts(json, "requested", place);
  return record;
}

void RunFolder::write(const RunRecord& record) {
  made_ = false;
  io::Json json = io::Json::object();
  json["schema_version"] = 1;
  json["program"] = kProgramName;
  json["status"] = record.status;
  json["started_at"] = started_at_;
  if (record.status != "running") {
    json["ended_at"] = utc_now();
  }
  json.update(identity_json(record));
  json["results"] = record.results;
  json["files"] = files_;
  io::write_file_atomically(file(config::kRecordName),
                            json.dump(2, ' ', false, io::Json::error_handler_t::replace) + "\n");
}

}  // namespace phi3tune::checkpoint
