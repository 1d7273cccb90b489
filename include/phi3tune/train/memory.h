// Memory of this process, as the system counts it.
#pragma once

#include <cstdint>

namespace phi3tune::train {

// VmHWM: the largest resident set so far, in bytes; 0 where /proc does not say. (getrusage's ru_maxrss is no
// substitute: it is inherited from the program that started this one.)
uint64_t peak_resident_bytes() noexcept;

}  // namespace phi3tune::train
