#pragma once
#include_next <cuda_fp16.h>

#include "cuda_runtime.h"
