// Stands in for the toolkit's cuda_runtime.h when a kernel file is compiled as plain C++.
//
// Types, vector types and error codes are the toolkit's own; the qualifiers, the execution model and
// the device intrinsics are ours. Put this folder before the toolkit's on the include path.
#pragma once

#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __grid_constant__
#undef __shared__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __shared__ static  // one block runs at a time, so a static is a block's memory
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __noinline__
#undef __forceinline__
#define __forceinline__ inline

#include "cuda_on_host/atomics.h"
#include "cuda_on_host/execution.h"
#include "cuda_on_host/intrinsics.h"
#include "cuda_on_host/launch.h"
