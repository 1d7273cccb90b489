// The emulator puts the guards and watches over them itself.
#include <cuda_on_host/testing.h>

#include <cstdlib>
#include <stdexcept>

#include "kernel_test.h"

namespace phi3tune::kernel_test {

Memory::Memory(size_t bytes) : data_(nullptr), bytes_(bytes) {
  if (cudaMalloc(&data_, bytes) != cudaSuccess) throw std::bad_alloc();
}
Memory::~Memory() { (void)cudaFree(data_); }
void Memory::upload(const void* from) const { (void)cudaMemcpy(data_, from, bytes_, cudaMemcpyHostToDevice); }
void Memory::download(void* to) const { (void)cudaMemcpy(to, data_, bytes_, cudaMemcpyDeviceToHost); }

int schedule_count() {
  const char* wanted = std::getenv("KERNEL_SCHEDULES");
  return wanted ? std::atoi(wanted) : 8;
}

void begin_schedule(int number) {
  cuda_on_host::set_schedule(static_cast<uint64_t>(number));
  cuda_on_host::take_report();
}

void end_schedule(int) { EXPECT_EQ(cuda_on_host::take_report(), ""); }

}  // namespace phi3tune::kernel_test
