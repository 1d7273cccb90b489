// On a device the guards are bytes of our own around the buffer, looked at from the host.
#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "kernel_test.h"

namespace phi3tune::kernel_test {
namespace {

constexpr size_t kGuard = 256;  // keeps cudaMalloc's alignment
constexpr int kGuardByte = 0xA5;

void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

void expect_guard(const char* from, size_t bytes, const char* side) {
  unsigned char guard[kGuard];
  check(cudaMemcpy(guard, from, kGuard, cudaMemcpyDeviceToHost));
  const bool intact = std::all_of(guard, guard + kGuard, [](unsigned char byte) { return byte == kGuardByte; });
  EXPECT_TRUE(intact) << "wrote " << side << " a buffer of " << bytes << " bytes";
}

}  // namespace

Memory::Memory(size_t bytes) : data_(nullptr), bytes_(bytes) {
  void* base = nullptr;
  check(cudaMalloc(&base, bytes + 2 * kGuard));
  check(cudaMemset(base, kGuardByte, bytes + 2 * kGuard));
  data_ = static_cast<char*>(base) + kGuard;
  check(cudaMemset(data_, 0xff, bytes));
}

Memory::~Memory() {
  if (!data_) return;
  char* base = static_cast<char*>(data_) - kGuard;
  try {
    check(cudaDeviceSynchronize());
    expect_guard(base, bytes_, "before");
    expect_guard(base + kGuard + bytes_, bytes_, "behind");
  } catch (const std::runtime_error& error) {
    ADD_FAILURE() << error.what();
  }
  (void)cudaFree(base);
}

void Memory::upload(const void* from) const { check(cudaMemcpy(data_, from, bytes_, cudaMemcpyHostToDevice)); }
void Memory::download(void* to) const { check(cudaMemcpy(to, data_, bytes_, cudaMemcpyDeviceToHost)); }

int schedule_count() {
  const char* wanted = std::getenv("KERNEL_RUNS");
  return wanted ? std::atoi(wanted) : 20;
}

void begin_schedule(int) {}
void end_schedule(int number) {
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << "run " << number;
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "run " << number;
}

}  // namespace phi3tune::kernel_test
