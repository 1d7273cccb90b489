#pragma once

#include "phi3tune/ops/backend.h"

namespace phi3tune::ops::cpu {

extern const Memory kMemory;

}  // namespace phi3tune::ops::cpu
