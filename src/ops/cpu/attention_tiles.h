// Attention in bfloat16 by tiles of keys and queries, with the matrix micro-kernels of has_panels() processors.
//
// Only what a query can see is computed (to the tile), sums are float32, and each key/value head is one task, so the
// bits do not depend on the thread count.
#pragma once

#include "phi3tune/ops/ops.h"

namespace phi3tune::ops::cpu {

// Whether attention by tiles serves these heads on this processor.
bool has_attention_tiles(const HeadShape& heads);

// As ops::attention and ops::attention_backward, for bfloat16.
void attention_tiles(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& qkv, const Documents& documents,
                     const HeadShape& heads, int64_t window);
void attention_backward_tiles(const at::Tensor& dqkv, const at::Tensor& dout, const at::Tensor& out,
                              const at::Tensor& lse, const at::Tensor& qkv, const Documents& documents,
                              const HeadShape& heads, int64_t window);

}  // namespace phi3tune::ops::cpu
