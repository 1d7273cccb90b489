// Atomic operations. Threads take turns, so a plain read and write is one; the memory checker is told.
#pragma once

#include <type_traits>

#include "cuda_on_host/execution.h"

namespace cuda_on_host {
template <class T, class F>
__attribute__((noinline, no_sanitize("thread"))) T atomically(T* address, F change) {
  note_atomic(address, sizeof(T));
  const T old = *address;
  *address = change(old);
  return old;
}
}  // namespace cuda_on_host

#define CUDA_ON_HOST_ATOMIC(name, expression)                                                        \
  template <class T>                                                                                 \
  T name(T* address, std::type_identity_t<T> value) {                                                \
    return cuda_on_host::atomically(address, [value](T old) { return static_cast<T>(expression); }); \
  }
CUDA_ON_HOST_ATOMIC(atomicAdd, old + value)
CUDA_ON_HOST_ATOMIC(atomicSub, old - value)
CUDA_ON_HOST_ATOMIC(atomicMax, old < value ? value : old)
CUDA_ON_HOST_ATOMIC(atomicMin, value < old ? value : old)
CUDA_ON_HOST_ATOMIC(atomicOr, old | value)
CUDA_ON_HOST_ATOMIC(atomicAnd, old& value)
CUDA_ON_HOST_ATOMIC(atomicExch, (static_cast<void>(old), value))
#undef CUDA_ON_HOST_ATOMIC
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return cuda_on_host::atomically(address, [=](T old) { return old == expected ? value : old; });
}
