// Bytes that a launch moves between a kernel and global memory, beside how many different bytes it touches. Written to
// the file that CUDA_ON_HOST_TRAFFIC names, one line a launch: moved, touched, kernel. Only the checked build can
// count.
#pragma once

#include <cstdint>

namespace cuda_on_host {

bool counts_traffic();
void add_traffic(uint64_t moved, uint64_t touched);
void end_launch(const void* kernel);

}  // namespace cuda_on_host
