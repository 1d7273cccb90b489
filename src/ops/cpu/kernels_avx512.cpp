#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 reports its own _mm512_undefined values
#pragma GCC diagnostic ignored "-Wuninitialized"
#include "ops/cpu/row_kernels.h"

namespace phi3tune::ops::cpu {

constexpr KernelSet kKernelsAvx512 = kernel_set("avx512");

}  // namespace phi3tune::ops::cpu
