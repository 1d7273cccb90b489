#pragma once

#include "phi3tune/ops/backend.h"

namespace phi3tune::cuda {

// Opens the device and fills the table of functions, once for the process. ResourceError.
const ops::Backend& open_backend(int device_index);

}  // namespace phi3tune::cuda
