// Which files of a folder a run of ours wrote, and deleting those alone.
#pragma once

#include <set>
#include <string>

namespace phi3tune::checkpoint {

inline constexpr const char* kProgramName = "phi3-tune";

// The name a path (relative to the folder) stands for: staged folders and files that were being written under a
// dot-name when a run was cut short lead to their final names, and all checkpoints to one:
// ".adapter.partial/.README.md.41-3.part" is "adapter/README.md", "checkpoints/.step-000200.trash/manifest.json" is
// "checkpoints/step-*/manifest.json".
std::string final_name(const std::string& relative);

// Deletes what `record` (run.json) of `folder` lists, with leftovers of writing it, and the folders that only held
// such files; the record goes last. Throws ConfigError, before anything is deleted, when there is no such record of
// ours, or when anything else is in the folder (the first few named). Links are never followed. Throws ResourceError.
void delete_owned_files(const std::string& folder, const std::string& record);

}  // namespace phi3tune::checkpoint
