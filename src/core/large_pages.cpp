#include "phi3tune/core/large_pages.h"

#include <sys/mman.h>

#include <cstdlib>

namespace phi3tune {
namespace {
constexpr size_t kLargePage = size_t{2} << 20;
}  // namespace

void* allocate_large_pages(size_t bytes) {
  void* memory = nullptr;
  const size_t whole = bytes / kLargePage * kLargePage;
  if (whole == 0) {
    memory = std::malloc(bytes == 0 ? 1 : bytes);
  } else if (posix_memalign(&memory, kLargePage, bytes) != 0) {
    memory = nullptr;
  }
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  if (whole != 0) {
    // What is left over stays on small pages: a large one would take up to 2 MiB more than was asked for.
    static_cast<void>(madvise(memory, whole, MADV_HUGEPAGE));
  }
  return memory;
}

void free_large_pages(void* memory) noexcept { std::free(memory); }

}  // namespace phi3tune
