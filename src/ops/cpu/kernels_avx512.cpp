#include "ops/cpu/row_kernels.h"

namespace phi3tune::ops::cpu {

constexpr KernelSet kKernelsAvx512 = kernel_set("avx512");

}  // namespace phi3tune::ops::cpu
