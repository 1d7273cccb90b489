// What a folder holds, and where a path lies.
#pragma once

#include <cstdint>
#include <string>
#include <system_error>
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

// The path, absolute, or the nearest folder above it that is there.
std::string nearest_there(const std::string& path);
// Of the disk that the path lies on, or will. With `code` set it is not known.
uint64_t free_bytes(const std::string& path, std::error_code& code);

}  // namespace phi3tune::io
