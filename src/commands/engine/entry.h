// The way into the engine: what libtorch throws becomes an error of ours.
#pragma once

#include <functional>

namespace phi3tune::commands {

// Runs `command` and returns its exit code. Errors of ours pass; exhausted memory and faults of a GPU become
// ResourceError, other faults of libtorch InternalError. `way_out`: said where memory ran out.
int entered(const char* way_out, const std::function<int()>& command);

}  // namespace phi3tune::commands
