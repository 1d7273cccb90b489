#include "ops/cpu/kernels.h"

#include <atomic>
#include <string_view>

namespace phi3tune::ops::cpu {
namespace {

bool available(const KernelSet& set) noexcept {
#if defined(__x86_64__)
  if (&set == &kKernelsAvx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
  }
  if (&set == &kKernelsAvx2) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  }
#endif
  return &set == &kKernelsPortable;
}

const KernelSet* best() noexcept {
  for (const KernelSet* set : {&kKernelsAvx512, &kKernelsAvx2}) {
    if (available(*set)) {
      return set;
    }
  }
  return &kKernelsPortable;
}

std::atomic<const KernelSet*>& chosen() noexcept {
  static std::atomic<const KernelSet*> set{best()};
  return set;
}

}  // namespace

const KernelSet& kernels() noexcept { return *chosen().load(std::memory_order_relaxed); }

bool force_kernels(const char* isa) noexcept {
  for (const KernelSet* set : {&kKernelsAvx512, &kKernelsAvx2, &kKernelsPortable}) {
    if (std::string_view(isa) == set->isa && available(*set)) {
      chosen().store(set, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace phi3tune::ops::cpu
