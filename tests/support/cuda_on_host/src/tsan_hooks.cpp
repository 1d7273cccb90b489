// Kernels compiled with -fsanitize=thread call __tsan_* at every load and store. No thread sanitizer is linked: these
// functions are ours, and lead to a checker that knows what a block, a barrier and a warp are.
#if defined(CUDA_ON_HOST_CHECK)

#include "checker.h"

namespace {
void access(const void* address, size_t size, bool write, const void* code) {
  cuda_on_host::check_access(reinterpret_cast<uintptr_t>(address), size, write, false, code);
}
}  // namespace

#define ACCESS(name, size, write) \
  void name(void* address) { access(address, size, write, __builtin_return_address(0)); }
#define ACCESSES(size)                             \
  ACCESS(__tsan_read##size, size, false)           \
  ACCESS(__tsan_write##size, size, true)           \
  ACCESS(__tsan_unaligned_read##size, size, false) \
  ACCESS(__tsan_unaligned_write##size, size, true)

extern "C" {
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_read_range(void* address, size_t size) { access(address, size, false, __builtin_return_address(0)); }
void __tsan_write_range(void* address, size_t size) { access(address, size, true, __builtin_return_address(0)); }
}

#endif
