// Finds the __shared__ variables of a kernel.
#pragma once

#include "region.h"

namespace cuda_on_host {

// Those of the .cu file that `kernel` comes from; of every .cu file if the kernel is not local to one.
const std::vector<Region*>& shared_variables_of(const void* kernel);

// Where the program was loaded; symbol tables count from there.
uintptr_t load_address();

}  // namespace cuda_on_host
