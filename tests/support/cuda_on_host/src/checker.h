// Finds races, accesses out of bounds and reads of unwritten memory. Does nothing unless built as the checked build.
#pragma once

#include "region.h"

namespace cuda_on_host {

// An access by a thread of the running kernel; `code` is the return address in the kernel.
void check_access(uintptr_t address, size_t size, bool write, bool atomic, const void* code);
void mark_written(uintptr_t address, size_t size);  // by the host
void regions_change();                              // what was found before may be gone
void begin_block();

}  // namespace cuda_on_host
