#include <ATen/ATen.h>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"
#include "cuda/platform.h"
#include "phi3tune/core/error.h"
#include "phi3tune/cuda/counters.h"

namespace phi3tune::cuda {
namespace {

// True where there is something to do; counted.
bool prepare(const char* op, const Tensor& qkv, const Documents& documents) {
  if (qkv.scalar_type() != at::kFloat && qkv.scalar_type() != at::kBFloat16) {
    refuse_dtype(op, qkv.scalar_type());
  }
  require(documents.on_device.defined(), "attention on a GPU wants the documents in its memory");
  stream();  // binds the thread
  counters().attentions += qkv.size(0) > 0 ? 1 : 0;
  return qkv.size(0) > 0;
}

}  // namespace

void attention(const Tensor& out, const Tensor& lse, const Tensor& qkv, const Documents& documents,
               const HeadShape& heads, int64_t window) {
  if (prepare("attention", qkv, documents)) {
    platform::attention(out, lse, qkv, documents, heads, window);
  }
}

void attention_backward(const Tensor& dqkv, const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& qkv,
                        const Documents& documents, const HeadShape& heads, int64_t window) {
  if (prepare("attention_backward", qkv, documents)) {
    platform::attention_backward(dqkv, dout, out, lse, qkv, documents, heads, window);
  }
}

}  // namespace phi3tune::cuda
