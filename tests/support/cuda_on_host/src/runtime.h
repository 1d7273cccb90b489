// What the scheduler asks of the runtime functions.
#pragma once

#include <cstddef>

namespace cuda_on_host {

// Bytes of dynamic shared memory that a launch of `kernel` may ask for.
size_t dynamic_shared_limit(const void* kernel);

}  // namespace cuda_on_host
