// What a kernel's test needs, the same on the host and on a device: buffers between guards, many schedules, random
// inputs, comparison with fp64.
//
//   const Buffer<bf16> x(random_values<bf16>(rows * dim, 2.0, 1));
//   const auto [y, rstd] = under_all_schedules([&] {
//     Buffer<bf16> y(rows * dim);
//     Buffer<float> rstd(rows);
//     EXPECT_EQ(rms_norm(y.data(), ...), cudaSuccess);
//     return std::tuple(y.download(), rstd.download());
//   });
//   expect_rounded(y, exact_y, 0);
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace phi3tune::kernel_test {

#if defined(CUDA_ON_HOST)
constexpr bool kOnDevice = false;
#else
constexpr bool kOnDevice = true;
#endif

// ---- buffers (buffer.cpp, device_buffer.cpp) ----

// Device memory of exactly `bytes`, full of 0xff (NaN, -1), between guards. A guard that was written to fails the test
// at the next download or when the memory is given back.
class Memory {
 public:
  explicit Memory(size_t bytes);
  Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  ~Memory();
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  void upload(const void* from) const;
  void download(void* to) const;

 private:
  void* data_;
  size_t bytes_;
};

// `offset` elements lie before the first one: a pointer that is not a multiple of 16 bytes.
template <class T>
class Buffer {
 public:
  explicit Buffer(size_t size, size_t offset = 0)
      : memory_((size + offset) * sizeof(T)), size_(size), offset_(offset) {}
  explicit Buffer(const std::vector<T>& values, size_t offset = 0) : Buffer(values.size(), offset) {
    std::vector<T> all(offset + size_);
    std::copy(values.begin(), values.end(), all.begin() + static_cast<std::ptrdiff_t>(offset));
    memory_.upload(all.data());
  }
  T* data() const { return static_cast<T*>(memory_.data()) + offset_; }
  size_t size() const { return size_; }
  std::vector<T> download() const {
    std::vector<T> all(offset_ + size_);
    memory_.download(all.data());
    return {all.begin() + static_cast<std::ptrdiff_t>(offset_), all.end()};
  }

 private:
  Memory memory_;
  size_t size_, offset_;
};

// ---- schedules ----

// On the host: 8 schedules (or KERNEL_SCHEDULES); on a device: 20 runs (or KERNEL_RUNS).
int schedule_count();
// Before and after each; `end` fails the test for whatever the emulator or the device has to say.
void begin_schedule(int number);
void end_schedule(int number);

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
template <class... Ts>
bool same_bits(const std::tuple<Ts...>& a, const std::tuple<Ts...>& b) {
  return [&]<size_t... I>(std::index_sequence<I...>) { return (same_bits(std::get<I>(a), std::get<I>(b)) && ...); }
  (std::index_sequence_for<Ts...>());
}

// Runs `once` under every schedule and gives what the first one gave: a vector, or a tuple of vectors. Other bits under
// another schedule, and any fault, fail the test.
template <class Once>
auto under_all_schedules(Once once) {
  begin_schedule(0);
  auto first = once();
  end_schedule(0);
  for (int number = 1; number < schedule_count() && !::testing::Test::HasFailure(); ++number) {
    begin_schedule(number);
    const bool same = same_bits(once(), first);
    end_schedule(number);
    EXPECT_TRUE(same) << "the result depends on the schedule, see number " << number;
  }
  return first;
}

// ---- values ----

inline double real(double value) { return value; }
inline double real(float value) { return value; }
inline double real(__nv_bfloat16 value) { return __bfloat162float(value); }
inline double real(__half value) { return __half2float(value); }

template <class T>
T rounded(double value) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(static_cast<float>(value));
  } else if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

// Normally distributed around zero.
template <class T>
std::vector<T> random_values(size_t size, double deviation, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, deviation);
  std::vector<T> values(size);
  for (auto& value : values) value = rounded<T>(normal(random));
  return values;
}

// Whole numbers of [low, high].
template <class T>
std::vector<T> random_integers(size_t size, int64_t low, int64_t high, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int64_t> uniform(low, high);
  std::vector<T> values(size);
  for (auto& value : values) value = static_cast<T>(uniform(random));
  return values;
}

template <class T>
std::vector<double> in_fp64(const std::vector<T>& values) {
  std::vector<double> all;
  all.reserve(values.size());
  for (const T& value : values) all.push_back(real(value));
  return all;
}

// ---- comparison ----

// Half a unit in the last place, relative: bf16 keeps 8 bits, fp16 11, fp32 24. The 1.001 is for an exact value that
// lies on a midpoint and is moved across it by the last fp32 operation.
template <class T>
constexpr double kHalfUlp = 0x1p-24 * 1.001;
template <>
inline constexpr double kHalfUlp<__nv_bfloat16> = 0x1p-8 * 1.001;
template <>
inline constexpr double kHalfUlp<__half> = 0x1p-11 * 1.001;

// Each value is `exact` rounded once to T, but for `fp32_term`, the error that sums and functions in fp32 may add: a
// number, or a function of the element's index. Say at the call where it comes from. NaN and infinity must agree.
using Fp32Term = std::function<double(size_t)>;
template <class T>
void expect_rounded(const std::vector<T>& ours, const std::vector<double>& exact, const Fp32Term& fp32_term) {
  ASSERT_EQ(ours.size(), exact.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    const double value = real(ours[i]), bound = kHalfUlp<T> * std::abs(exact[i]) + fp32_term(i);
    const bool same = value == exact[i] || (std::isnan(value) && std::isnan(exact[i]));
    ASSERT_TRUE(same || std::abs(value - exact[i]) <= bound)
        << "element " << i << " of " << ours.size() << " is " << value << ", exactly " << exact[i] << "; "
        << std::abs(value - exact[i]) / bound << " times the bound";
  }
}
template <class T>
void expect_rounded(const std::vector<T>& ours, const std::vector<double>& exact, double fp32_term) {
  expect_rounded(ours, exact, [fp32_term](size_t) { return fp32_term; });
}

template <class T>
std::string shown(const T& value) {
  if constexpr (std::is_integral_v<T>) {
    return std::to_string(static_cast<int64_t>(value));
  } else {
    return ::testing::PrintToString(real(value));
  }
}

template <class T>
void expect_bits(const std::vector<T>& ours, const std::vector<T>& wanted) {
  ASSERT_EQ(ours.size(), wanted.size());
  for (size_t i = 0; i < ours.size(); ++i)
    ASSERT_EQ(std::memcmp(&ours[i], &wanted[i], sizeof(T)), 0)
        << "element " << i << " of " << ours.size() << " is " << shown(ours[i]) << ", wanted " << shown(wanted[i]);
}

}  // namespace phi3tune::kernel_test
