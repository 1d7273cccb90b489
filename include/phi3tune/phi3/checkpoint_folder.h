// A checkpoint's folder held against its manifest, without its base and without a tensor in memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "phi3tune/io/manifest.h"

namespace phi3tune::phi3 {

// The step that the manifest says.
std::optional<int64_t> step_of(const io::Manifest& manifest);

// What is wrong with a checkpoint whose manifest is whole, one fault a text that begins with a path: not a checkpoint's
// manifest, of another step than the folder's name says, parts that it does not list, files that are not as they were
// written. Empty: every byte is as it was written.
std::vector<std::string> faults_of_checkpoint(const std::string& folder, const io::Manifest& manifest);

}  // namespace phi3tune::phi3
