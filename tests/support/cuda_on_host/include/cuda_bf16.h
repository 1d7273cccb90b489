// The toolkit's own bf16 type: its conversions have host versions, most of its arithmetic does not.
#pragma once
#include_next <cuda_bf16.h>

#include "cuda_runtime.h"
