// The device's two streams, and the words they meet at.
#pragma once

#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>

namespace phi3tune::cuda {

// Opens the device for the process: its streams, staging memory, libraries. Once; again with the same index does
// nothing. ResourceError.
void open_device(int index);

// Of copies beside the computing.
cudaStream_t copy_stream();

// int64 [1] in the device's memory, for an answer that is read at once.
const at::Tensor& device_word();

}  // namespace phi3tune::cuda
