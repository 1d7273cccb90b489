// A stack that can be left and entered again: 6 registers pushed, 6 popped.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_on_host {

#if defined(__x86_64__)
extern "C" void cuda_on_host_switch(void** save, void* load);
#endif

class Fiber {
 public:
  static constexpr size_t kStack = 128 * 1024;

  Fiber() = default;
  Fiber(const Fiber&) = delete;
  // `entry` must never return. Starting again forgets whatever the fiber was doing.
  void start(void (*entry)()) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    if (!stack_) {
      stack_ = static_cast<char*>(
          mmap(nullptr, kStack + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
      mprotect(stack_, page, PROT_NONE);
      stack_ += page;
    }
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(stack_, kStack);
#endif
#if defined(__x86_64__)
    // Stacks are a whole number of pages apart: without a shift of its own each would fight for the same cache lines.
    const auto shift = reinterpret_cast<uintptr_t>(stack_) / page / 33 % 61 * 64;
    auto* top = reinterpret_cast<void**>(stack_ + kStack - shift) - 2;  // leaves rsp % 16 == 8 at entry
    *top = reinterpret_cast<void*>(entry);
    pointer_ = top - 6;
    for (int i = 0; i < 6; ++i) static_cast<void**>(pointer_)[i] = nullptr;
#else
    getcontext(&context_);
    context_.uc_stack = {stack_, 0, kStack};
    makecontext(&context_, entry, 0);
#endif
  }
  bool holds(uintptr_t address) const { return address - reinterpret_cast<uintptr_t>(stack_) < kStack; }

  // Leaves `from` (whose frame we are in) and goes on in `to`.
  static void go(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
    // The host's stack has a size of its own, or what an exception unwinds would stay poisoned.
    __sanitizer_start_switch_fiber(&from.fake_, to.stack_, to.size_ > 0 ? to.size_ : kStack);
#endif
#if defined(__x86_64__)
    cuda_on_host_switch(&from.pointer_, to.pointer_);
#else
    swapcontext(&from.context_, &to.context_);
#endif
    arrive(from);
  }
  // The first act of an entry function.
  static void arrive([[maybe_unused]] Fiber& self, [[maybe_unused]] Fiber* came_from = nullptr) {
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(self.fake_, &bottom, &size);
    if (came_from) {  // the host's own stack is learned from the first switch
      came_from->stack_ = static_cast<char*>(const_cast<void*>(bottom));
      came_from->size_ = size;
    }
#endif
  }

 private:
  char* stack_ = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_ = nullptr;
  size_t size_ = 0;
#endif
#if defined(__x86_64__)
  void* pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
};

}  // namespace cuda_on_host
