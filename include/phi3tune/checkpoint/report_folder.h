// A folder of texts that replaces its predecessor as a whole.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace phi3tune::checkpoint {

// Throws ConfigError when something else than those files is in `folder`: before the work whose result goes there.
void require_own_report(const std::string& folder, const std::vector<std::string>& names);

// Writes the files {name, text}: staged beside the folder, then renamed; what was there goes when the new one is whole.
// Throws ResourceError; then what was there is as it was.
void write_report(const std::string& folder, const std::vector<std::pair<std::string, std::string>>& files);

}  // namespace phi3tune::checkpoint
