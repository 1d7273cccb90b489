// The low-rank branch and its dropout.
#include <ATen/ATen.h>

#include "ops/checks.h"
#include "ops/philox.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {

at::Tensor definition::dropout_factors(int64_t columns, const Documents& documents, const DropoutKey& key,
                                       at::ScalarType wide) {
  const at::Tensor factors = at::empty({documents.cu_seqlens.back(), columns}, at::kDouble);
  auto* factor = factors.mutable_data_ptr<double>();
  const uint32_t threshold = dropout_threshold(key.p);
  for (size_t i = 1; i < documents.cu_seqlens.size(); ++i) {
    const Philox4 stream = dropout_stream(key, key.sample_ids[i - 1]);
    const int64_t length = documents.cu_seqlens[i] - documents.cu_seqlens[i - 1];
    for (int64_t position = 0; position < length; ++position) {
      for (int64_t column = 0; column < columns; ++column) {
        const bool kept = dropout_bits(stream, static_cast<uint32_t>(position), column) >= threshold;
        *factor++ = kept ? 1.0 / (1.0 - key.p) : 0.0;
      }
    }
  }
  return factors.to(wide);
}

at::Tensor definition::dropout(const at::Tensor& x, const Documents& documents, const DropoutKey& key) {
  const at::ScalarType wide = wide_dtype(x.scalar_type());
  return (x.to(wide) * dropout_factors(x.size(1), documents, key, wide)).to(x.scalar_type());
}

void dropout(const at::Tensor& out, const at::Tensor& x, const Documents& documents, const DropoutKey& key) {
  const Check check("dropout");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t tokens = check.size("x", x, 2, 0);
  check.tensor("x", x, dtype, {tokens, x.size(1)});
  check.tensor("out", out, dtype, {tokens, x.size(1)});
  check.documents(documents, tokens);
  check.dropout(key, documents);
  backend().dropout(out, x, documents, key);
}

at::Tensor definition::lora(const at::Tensor& y, const at::Tensor& x, const at::Tensor& a, const at::Tensor& b,
                            double scale) {
  return y + at::matmul(at::matmul(x, a.t()), b.t()) * scale;
}

void lora_forward(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const at::Tensor& a,
                  const at::Tensor& b, double scale) {
  const Check check("lora_forward");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t tokens = check.size("x", x, 2, 0);
  const int64_t rank = check.size("a", a, 2, 0);
  const int64_t outputs = check.size("b", b, 2, 0);
  check.tensor("x", x, dtype, {tokens, x.size(1)});
  check.tensor("a", a, dtype, {rank, x.size(1)});
  check.tensor("b", b, dtype, {outputs, rank});
  check.tensor("u", u, dtype, {tokens, rank});
  check.tensor("y", y, dtype, {tokens, outputs});
  backend().lora_forward(y, u, x, a, b, scale);
}

void lora_weight_gradients(const at::Tensor& grad_a, const at::Tensor& grad_b, const at::Tensor& du,
                           const at::Tensor& dy, const at::Tensor& x, const at::Tensor& u, const at::Tensor& b,
                           double scale) {
  const Check check("lora_weight_gradients");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t tokens = check.size("x", x, 2, 0);
  const int64_t outputs = check.size("b", b, 2, 0);
  const int64_t rank = b.size(1);
  check.tensor("x", x, dtype, {tokens, x.size(1)});
  check.tensor("dy", dy, dtype, {tokens, outputs});
  check.tensor("u", u, dtype, {tokens, rank});
  check.tensor("du", du, dtype, {tokens, rank});
  check.tensor("b", b, dtype, {outputs, rank});
  check.tensor("grad_a", grad_a, wide_dtype(dtype), {rank, x.size(1)});
  check.tensor("grad_b", grad_b, wide_dtype(dtype), {outputs, rank});
  backend().lora_weight_gradients(grad_a, grad_b, du, dy, x, u, b, scale);
}

void lora_input_gradient(const at::Tensor& dx, const at::Tensor& du, const at::Tensor& a, const Documents& documents,
                         const DropoutKey& key) {
  const Check check("lora_input_gradient");
  const at::ScalarType dtype = check.compute_dtype("dx", dx);
  const int64_t tokens = check.size("dx", dx, 2, 0);
  const int64_t rank = check.size("a", a, 2, 0);
  check.tensor("dx", dx, dtype, {tokens, dx.size(1)});
  check.tensor("a", a, dtype, {rank, dx.size(1)});
  check.tensor("du", du, dtype, {tokens, rank});
  if (key.p != 0.0) {
    check.documents(documents, tokens);
    check.dropout(key, documents);
  }
  backend().lora_input_gradient(dx, du, a, documents, key);
}

}  // namespace phi3tune::ops
