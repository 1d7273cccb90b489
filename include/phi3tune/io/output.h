// Where a command writes its result: checked before any work is done.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace phi3tune::io {

// Throws ResourceError when nothing can be made where `out` will lie.
void require_writable(const std::string& out);
// Throws ConfigError when something is at `out`, or `out` is one of `inputs` or lies in one; ResourceError as above.
void require_free_output(const std::string& out, const std::vector<std::string>& inputs);
// Throws ResourceError when the disk that `out` will lie on has less room.
void require_room(const std::string& out, uint64_t bytes);

}  // namespace phi3tune::io
