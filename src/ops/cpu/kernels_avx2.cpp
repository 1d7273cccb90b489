#include "ops/cpu/row_kernels.h"

namespace phi3tune::ops::cpu {

constexpr KernelSet kKernelsAvx2 = kernel_set("avx2");

}  // namespace phi3tune::ops::cpu
