// Global memory between guards, and the shared memory of the running block.
#pragma once

#include "region.h"

namespace cuda_on_host {

// The allocations, the dynamic shared memory and the shared variables of the running kernel.
const std::vector<Region*>& regions();

// Global memory.
void* allocate_global(size_t size);  // full of NaN
bool free_global(void* pointer);     // false if there is no such allocation
void check_guards();                 // reports and repairs
bool is_shared(uintptr_t address, size_t size);

// Shared memory.
void use_shared(const std::vector<Region*>& variables, size_t dynamic_bytes);  // of the kernel about to run
void poison_shared();                                                          // NaN everywhere, as a block may find it

}  // namespace cuda_on_host
