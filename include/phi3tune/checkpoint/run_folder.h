// The output folder of a run and its run.json: who owns which file, and what the run was.
//
// A file is deleted only if a run.json of ours lists it, so a name is claimed before the file is written. One process
// at a time holds the folder.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "phi3tune/io/json.h"

namespace phi3tune::checkpoint {

using Facts = std::vector<std::pair<std::string, std::string>>;

// The text of that name, or null.
const std::string* find_fact(const Facts& facts, std::string_view name);

struct RunRecord {
  std::string status = "running";  // running | finished | stopped | failed
  std::string run_name;
  Facts settings;   // every setting as resolved: canonical name, JSON text
  Facts requested;  // of these, what was asked for where it was left to the program or did not fit: "auto"
  Facts versions;   // program, libtorch, compiler
  Facts hashes;     // base, data, tokenizer, template, program
  Facts compute;    // threads, dtype, instruction set, saved activations, device
  io::Json results = io::Json::object();
};

// {"run_name", "settings", "requested", "hashes", "versions", "compute"}: what a run is, without how it went.
io::Json identity_json(const RunRecord& record);
// The reverse. Throws CheckpointError: "<place>: <member>: found, wanted".
RunRecord identity_from(const io::Json& json, const std::string& place);

class RunFolder {
 public:
  // An absent or empty folder is made and held. Anything in it: ConfigError that names overwrite_output_dir. With
  // `overwrite`: the files that its run.json lists, and what was left of writing them, are deleted; anything else in it
  // is foreign and makes a ConfigError, before a byte is touched. A folder that another process holds: ConfigError.
  // Throws ResourceError for what the disk refuses.
  static RunFolder prepare(const std::string& path, bool overwrite);
  // Holds the folder of an earlier run of ours, to go on in it, or to start over. Throws as prepare does; ConfigError
  // without a sound run.json of ours. any_version: it need only list its files, earlier() is empty then.
  static RunFolder reopen(const std::string& path, bool any_version = false);
  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;
  ~RunFolder();

  const std::string& path() const noexcept { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  bool reopened() const noexcept { return reopened_; }
  // What run.json said when the folder was reopened.
  const RunRecord& earlier() const noexcept { return earlier_; }
  // Deletes what the earlier run wrote, as prepare does with `overwrite`.
  void start_over();

  // Names, relative to the folder ("adapter/README.md"), that the run will write. Takes effect with write().
  void claim(const std::vector<std::string>& names);
  // run.json, atomically.
  void write(const RunRecord& record);

 private:
  RunFolder(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}
  std::string path_;
  int lock_ = -1;  // the folder, opened and locked
  std::set<std::string> files_;
  std::string started_at_;
  RunRecord earlier_;
  bool reopened_ = false;
  bool made_ = false;  // by us and still empty: goes when nothing is written into it
};

}  // namespace phi3tune::checkpoint
