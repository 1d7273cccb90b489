// The CUDA back end's platform without a GPU: products and attention on the CPU, everything else by the kernels that
// the execution layer runs.
#include <ATen/ATen.h>

#include "cuda/platform.h"
#include "phi3tune/core/error.h"
#include "phi3tune/ops/backend.h"

namespace phi3tune::cuda::platform {
namespace {

using at::Tensor;

void copy_into(const Tensor& to, const Tensor& from) { Tensor(to).copy_(from); }

}  // namespace

at::Device device() { return at::kCPU; }
void open(int, cudaStream_t) {}
void bind_thread() {}

// As cuBLASLt: float32 sums, rounded once, the old c taken into the sum.
void gemm(const char*, const Tensor& c, const Tensor& a, const Tensor& b, double alpha, double beta) {
  require(c.numel() > 0 && a.size(1) > 0, "the platform is asked for an empty product");
  const Tensor product = at::mm(a.to(at::kFloat), b.to(at::kFloat));
  if (beta == 0.0) {
    copy_into(c, product.mul_(alpha));
  } else {
    copy_into(c, c.to(at::kFloat).mul_(beta).add_(product, alpha));
  }
}

// The CPU's functions know contiguous tensors only.
void attention(const Tensor& out, const Tensor& lse, const Tensor& qkv, const ops::Documents& documents,
               const ops::HeadShape& heads, int64_t window) {
  require(qkv.size(0) > 0, "the platform is asked for attention over no tokens");
  const Tensor result = at::empty(out.sizes(), out.options());
  ops::cpu_backend().attention(result, lse, qkv.contiguous(), documents, heads, window);
  copy_into(out, result);
}

void attention_backward(const Tensor& dqkv, const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& qkv,
                        const ops::Documents& documents, const ops::HeadShape& heads, int64_t window) {
  const Tensor result = at::empty(dqkv.sizes(), dqkv.options());
  ops::cpu_backend().attention_backward(result, dout.contiguous(), out.contiguous(), lse, qkv.contiguous(), documents,
                                        heads, window);
  copy_into(dqkv, result);
}

size_t library_bytes() { return 0; }
size_t library_allocations() { return 0; }

}  // namespace phi3tune::cuda::platform
