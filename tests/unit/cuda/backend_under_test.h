// Which back end device_parity_test.cpp is run through: the host's in test_cuda, the plug-in's on a GPU.
#pragma once

#include "phi3tune/ops/backend.h"

namespace phi3tune::cuda::test {

const ops::Backend& backend_under_test();

}  // namespace phi3tune::cuda::test
