// Memory that is read front to back again and again: asks for pages of 2 MiB, for prefetching ends where a page does.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace phi3tune {

// Aligned so that the whole large pages in `bytes` can be had; whether the system grants them is its own affair. Throws
// std::bad_alloc.
void* allocate_large_pages(size_t bytes);
void free_large_pages(void* memory) noexcept;

template <typename T>
struct LargePages {
  using value_type = T;
  LargePages() = default;
  template <typename U>
  LargePages(const LargePages<U>&) noexcept {}
  T* allocate(size_t count) {
    if (count > static_cast<size_t>(-1) / sizeof(T)) {
      throw std::bad_alloc();
    }
    return static_cast<T*>(allocate_large_pages(count * sizeof(T)));
  }
  void deallocate(T* memory, size_t) noexcept { free_large_pages(memory); }
  bool operator==(const LargePages&) const noexcept { return true; }
};

template <typename T>
using LargeVector = std::vector<T, LargePages<T>>;

}  // namespace phi3tune
