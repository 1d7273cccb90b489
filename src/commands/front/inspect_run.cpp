#include "commands/front/inspect_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/io/folder.h"
#include "phi3tune/io/manifest.h"
#include "phi3tune/phi3/adapter_folder.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;
using io::Json;

void add_all(std::vector<std::string>& to, const std::vector<std::string>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

Json read_record(const std::string& folder) {
  const std::string path = folder + "/" + config::kRecordName;
  auto record = io::read_json_file<CheckpointError>(path);
  if (!record.is_object() || record.value("program", Json(nullptr)) != "phi3-tune" ||
      !record.value("status", Json(nullptr)).is_string()) {
    throw CheckpointError("{}: not the record of a run of phi3-tune", path);
  }
  return record;
}

std::string ending_of(const Json& record) {
  const auto status = record["status"].get<std::string>();
  if (status == "running") {
    return "running, or cut short: then the same command goes on with it";
  }
  if (status == "stopped") {
    return "stopped: the same command goes on with it";
  }
  return status;
}

// Checkpoints newest first, and the newest that is sound.
void inspect_checkpoints(const std::string& folder, Inspected& run) {
  const std::string parent = folder + "/" + config::kCheckpointsFolder;
  std::vector<int64_t> steps;
  Json leftovers = Json::array();
  for (const std::string& name : io::names_in<CheckpointError>(parent)) {
    if (const auto step = config::step_of_checkpoint(name)) {
      steps.push_back(*step);
    } else if (name.ends_with(".partial") || name.ends_with(".trash")) {
      leftovers.push_back(name);
    }
  }
  std::sort(steps.rbegin(), steps.rend());
  Json checkpoints = Json::array();
  Json resumes_from = nullptr;
  for (const int64_t step : steps) {
    const std::string path = parent + "/" + config::checkpoint_name(step);
    const Inspected one = inspect_checkpoint(path);
    Json json = {{"path", path}, {"step", step}, {"sound", one.faults.empty()}, {"faults", one.faults}};
    json["usable"] = one.faults.empty() ? Json("all of it") : Json(one.usable);
    checkpoints.push_back(std::move(json));
    add_all(run.faults, one.faults);
    if (one.faults.empty() && resumes_from.is_null()) {
      resumes_from = path;
    }
  }
  run.json["checkpoints"] = std::move(checkpoints);
  run.json["resumes_from"] = std::move(resumes_from);
  run.json["leftovers"] = std::move(leftovers);
}

// The result's files against what run.json says of them.
std::vector<std::string> faults_of_result(const std::string& folder, const Json& record) {
  std::vector<std::string> faults;
  const auto files = record.value("/results/adapter_files"_json_pointer, Json::object());
  if (!files.is_object()) {
    return {fmt::format("{}: results.adapter_files is no object", config::kRecordName)};
  }
  io::Manifest manifest;
  for (const auto& [name, file] : files.items()) {
    if (name.empty() || name.find('/') != std::string::npos || !file.is_object() ||
        !file.value("bytes", Json(nullptr)).is_number_unsigned() ||
        !file.value("xxh3_128", Json(nullptr)).is_string()) {
      faults.push_back(fmt::format("{}: results.adapter_files: {} is no file of it, or has no length and hash",
                                   config::kRecordName, Json(name).dump()));
      continue;
    }
    manifest.files[name] = {file["bytes"].get<uint64_t>(), file["xxh3_128"].get<std::string>()};
  }
  add_all(faults, io::faults_of(folder, manifest));
  if (faults.empty()) {
    try {
      (void)phi3::AdapterFolder::open(folder);
    } catch (const CheckpointError& error) {
      faults.emplace_back(error.what());
    }
  }
  return faults;
}

void inspect_result(const std::string& folder, const Json& record, Inspected& run) {
  const std::string adapter = folder + "/" + config::kAdapterFolder;
  std::error_code code;
  const bool there = fs::exists(fs::symlink_status(adapter, code));
  const bool finished = record["status"] == "finished";
  run.json["adapter"] = there ? Json(adapter) : Json(nullptr);
  if (!there) {
    run.json["adapter_sound"] = nullptr;
    if (finished) {
      run.faults.push_back(fmt::format("{}: the run finished, and its adapter is not there", adapter));
    }
    return;
  }
  const auto faults = faults_of_result(adapter, record);
  run.json["adapter_sound"] = faults.empty();
  add_all(run.faults, faults);
}

std::string usable_of(const Json& run) {
  std::string text;
  if (run["adapter_sound"] == true) {
    text = fmt::format("the adapter is whole: {}", run["adapter"].get<std::string>());
  }
  if (!run["resumes_from"].is_null()) {
    text += fmt::format("{}the same command goes on from {}", text.empty() ? "" : "; ",
                        run["resumes_from"].get<std::string>());
  }
  return text.empty() ? "nothing of it can be used" : text;
}

}  // namespace

Inspected inspect_run_folder(const std::string& folder) {
  const Json record = read_record(folder);
  Inspected run;
  run.json["kind"] = "run folder";
  run.json["path"] = folder;
  run.json["run_name"] = record.value("run_name", Json(nullptr));
  run.json["status"] = ending_of(record);
  run.json["started_at"] = record.value("started_at", Json(nullptr));
  run.json["ended_at"] = record.value("ended_at", Json(nullptr));
  inspect_checkpoints(folder, run);
  inspect_result(folder, record, run);
  if (!run.faults.empty()) {
    run.usable = usable_of(run.json);
  }
  return run;
}

}  // namespace phi3tune::commands
