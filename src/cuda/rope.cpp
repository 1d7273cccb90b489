#include <ATen/ATen.h>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"

namespace phi3tune::cuda {

void rope(const Tensor& qkv, const Tensor& cosine, const Tensor& sine, const HeadShape& heads, bool inverse) {
  with_dtype("rope", qkv.scalar_type(), [&]<typename T>(T) {
    launched("rope",
             kernels::rope<T>(data<T>(qkv), ld(qkv), data<float>(cosine), data<float>(sine), qkv.size(0),
                              static_cast<int>(heads.num_heads + heads.num_kv_heads), static_cast<int>(heads.head_dim),
                              static_cast<int>(heads.rotary_dim), inverse, stream()),
             {&qkv});
  });
}

}  // namespace phi3tune::cuda
