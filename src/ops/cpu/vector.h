// Vectors as wide as the instruction set a file is compiled for, over float and double, with bfloat16 in memory.
//
// Only kernel files include this, once each; everything has internal linkage, so code for one instruction set is never
// merged with code for another. A tail is computed by the same vector instructions as the rest: where an element sits
// in a row, or how long the row is, never changes its bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace phi3tune::ops::cpu {
namespace {

#if defined(__AVX512F__)
constexpr size_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr size_t kVectorBytes = 32;
#else
constexpr size_t kVectorBytes = 16;
#endif

using Bf16 = uint16_t;  // a bfloat16 as its bits

template <typename T>
struct WideOf {
  using Type = T;
};
template <>
struct WideOf<Bf16> {
  using Type = float;
};
template <typename T>
using Wide = typename WideOf<T>::Type;

using F32 = float __attribute__((vector_size(kVectorBytes)));
using I32 = int32_t __attribute__((vector_size(kVectorBytes)));
using U32 = uint32_t __attribute__((vector_size(kVectorBytes)));
using U16 = uint16_t __attribute__((vector_size(kVectorBytes / 2)));
using F64 = double __attribute__((vector_size(kVectorBytes)));
using I64 = int64_t __attribute__((vector_size(kVectorBytes)));

template <typename W>
struct VecOf;
template <>
struct VecOf<float> {
  using Type = F32;
};
template <>
struct VecOf<double> {
  using Type = F64;
};
template <typename W>
using Vec = typename VecOf<W>::Type;
template <typename W>
constexpr int64_t kLanes = static_cast<int64_t>(kVectorBytes / sizeof(W));

// How much of a vector a load or store touches: all of it, or the first `count` lanes (the others load as 0).
struct Full {};
struct Part {
  int64_t count;
};

inline U16 narrow_bits(F32 value) {
  U32 bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const U32 rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;  // to nearest, ties to even
  const U32 nan = (bits >> 16) | 0x40U;
  return __builtin_convertvector((bits & 0x7FFFFFFFU) > 0x7F800000U ? nan : rounded, U16);
}
inline F32 widen_bits(U16 bits) {
  const U32 wide = __builtin_convertvector(bits, U32) << 16;
  F32 value;
  __builtin_memcpy(&value, &wide, sizeof value);
  return value;
}

template <typename V>
inline V load_raw(const void* from, Full) {
  V value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
template <typename V>
inline V load_raw_part(const void* from, size_t bytes) {
  V value{};
  __builtin_memcpy(&value, from, bytes);
  return value;
}

inline F32 load(const float* from, Full full) { return load_raw<F32>(from, full); }
inline F32 load(const float* from, Part part) { return load_raw_part<F32>(from, sizeof(float) * part.count); }
inline F64 load(const double* from, Full full) { return load_raw<F64>(from, full); }
inline F64 load(const double* from, Part part) { return load_raw_part<F64>(from, sizeof(double) * part.count); }
inline F32 load(const Bf16* from, Full full) { return widen_bits(load_raw<U16>(from, full)); }
inline F32 load(const Bf16* from, Part part) { return widen_bits(load_raw_part<U16>(from, sizeof(Bf16) * part.count)); }

inline void store(float* to, F32 value, Full) { __builtin_memcpy(to, &value, sizeof value); }
inline void store(float* to, F32 value, Part part) { __builtin_memcpy(to, &value, sizeof(float) * part.count); }
inline void store(double* to, F64 value, Full) { __builtin_memcpy(to, &value, sizeof value); }
inline void store(double* to, F64 value, Part part) { __builtin_memcpy(to, &value, sizeof(double) * part.count); }
inline void store(Bf16* to, F32 value, Full) {
  const U16 bits = narrow_bits(value);
  __builtin_memcpy(to, &bits, sizeof bits);
}
inline void store(Bf16* to, F32 value, Part part) {
  const U16 bits = narrow_bits(value);
  __builtin_memcpy(to, &bits, sizeof(Bf16) * part.count);
}

// Calls f(i, Full or Part) over [0, n).
template <typename W, typename F>
inline void for_vectors(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kLanes<W> <= n; i += kLanes<W>) {
    f(i, Full{});
  }
  if (i < n) {
    f(i, Part{n - i});
  }
}

template <typename W>
inline Vec<W> splat(W value) {
  return value - Vec<W>{};
}

// Lanes are added pairwise, in an order that does not depend on the data.
template <typename W>
inline W sum_lanes(Vec<W> value) {
  W lanes[kLanes<W>];
  __builtin_memcpy(lanes, &value, sizeof value);
  for (int64_t half = kLanes<W> / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) {
      lanes[i] += lanes[i + half];
    }
  }
  return lanes[0];
}
template <typename W>
inline W max_lanes(Vec<W> value) {
  W largest = value[0];
  for (int64_t i = 1; i < kLanes<W>; ++i) {
    largest = value[i] > largest ? value[i] : largest;
  }
  return largest;
}

// Lanes at and after part.count become `filler`.
template <typename W>
inline Vec<W> fill_tail(Vec<W> value, Full, W) {
  return value;
}
template <typename W>
inline Vec<W> fill_tail(Vec<W> value, Part part, W filler) {
  for (int64_t i = part.count; i < kLanes<W>; ++i) {
    value[i] = filler;
  }
  return value;
}

// To the precision of the memory type and back.
inline F32 round_to(F32 value, const Bf16*) { return widen_bits(narrow_bits(value)); }
inline F32 round_to(F32 value, const float*) { return value; }
inline F64 round_to(F64 value, const double*) { return value; }

}  // namespace
}  // namespace phi3tune::ops::cpu
