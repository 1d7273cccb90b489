// What a folder holds.
#pragma once

#include <string>
#include <vector>

namespace phi3tune::io {

// Names in a folder, sorted; none when there is no such folder. Throws ErrorType (path, the system's reason).
// Instantiated for ResourceError and CheckpointError.
template <typename ErrorType>
std::vector<std::string> names_in(const std::string& folder);

}  // namespace phi3tune::io
