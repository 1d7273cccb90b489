// Attention of one document with a window, by blocks of queries: each block sees the keys of its window only, so memory
// and time grow with T * window, never with T * T.
#pragma once

#include <ATen/core/Tensor.h>

namespace phi3tune::ops::cpu {

// q, out [N, T, H], k, v [G, T, H], lse [N, T] wide; views of any stride.
void blocked_attention(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor& v, int64_t window);
void blocked_attention_backward(const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv,
                                const at::Tensor& dout, const at::Tensor& out, const at::Tensor& lse,
                                const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window);

}  // namespace phi3tune::ops::cpu
