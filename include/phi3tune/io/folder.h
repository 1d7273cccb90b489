// What a folder holds, and where a path lies.
#pragma once

#include <string>
#include <vector>

namespace phi3tune::io {

// Names in a folder, sorted; none when there is no such folder. Throws ErrorType (path, the system's reason).
// Instantiated for ResourceError and CheckpointError.
template <typename ErrorType>
std::vector<std::string> names_in(const std::string& folder);

// "runs" for "runs/out", "." for "out".
std::string parent_of(const std::string& path);
// "runs/out" for "runs/out//"; "/" stays.
std::string without_trailing_slash(std::string path);

}  // namespace phi3tune::io
