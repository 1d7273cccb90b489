#include "ops/cpu/row_kernels.h"

namespace phi3tune::ops::cpu {

constexpr KernelSet kKernelsPortable = kernel_set("portable");

}  // namespace phi3tune::ops::cpu
