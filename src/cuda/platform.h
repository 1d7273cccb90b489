// What a GPU has and the host's execution layer has not: everything else in this folder runs on both.
//
// src/cuda/device holds the GPU's version; tests/support/cuda_on_host/host_platform.cpp the one that tests link with
// kernels executed on the host.
#pragma once

#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>

#include <cstddef>

#include "phi3tune/ops/ops.h"

namespace phi3tune::cuda::platform {

// Of every tensor: cuda:<index> after open(), or the CPU.
at::Device device();
// Once, before anything else: the device's index is valid, `stream` is the one all ops are ordered on.
void open(int index, cudaStream_t stream);
// Makes device and stream those of the calling thread, for the runtime's calls and for ATen's. Cheap when they are.
void bind_thread();

// c = alpha * a b + beta * c. a [m, k], b [k, n], c [m, n], all sizes positive; each of a and b has one unit stride
// (either), c a unit column stride. a and b have one dtype, float32 or bfloat16; c has it too, or is float32. Sums are
// float32 whatever the dtype, and rounded once. beta 0: c is not read. `op` is for messages.
void gemm(const char* op, const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, double alpha, double beta);

// As ops::attention and ops::attention_backward; tokens > 0.
void attention(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& qkv, const ops::Documents& documents,
               const ops::HeadShape& heads, int64_t window);
void attention_backward(const at::Tensor& dqkv, const at::Tensor& dout, const at::Tensor& out, const at::Tensor& lse,
                        const at::Tensor& qkv, const ops::Documents& documents, const ops::HeadShape& heads,
                        int64_t window);

// What libraries hold, at its largest: workspaces, results before they are copied. Bytes.
size_t library_bytes();
// How often they took memory of the device for it.
size_t library_allocations();

}  // namespace phi3tune::cuda::platform
