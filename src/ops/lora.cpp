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
  check.rows("x", x, dtype, {tokens, x.size(1)});
  check.tensor("out", out, dtype, {tokens, x.size(1)});
  check.documents(documents, tokens);
  check.dropout(key, documents);
  backend().dropout(out, x, documents, key);
}

at::Tensor definition::lora(const at::Tensor& y, const at::Tensor& x, const at::Tensor& a, const at::Tensor& b,
                            double scale) {
  return y + at::matmul(at::matmul(x, a.t()), b.t()) * scale;
}

namespace {

// Tokens and widths of an adapted linear, and that weight and adapter fit them.
struct Widths {
  at::ScalarType dtype;
  int64_t tokens, inputs, outputs, rank;
};
Widths check_adapter(const Check& check, const at::Tensor& tokens_by, const LinearWeight& weight,
                     const LowRank& adapter) {
  const at::ScalarType dtype = check.compute_dtype("tokens", tokens_by);
  const Widths widths{dtype, check.size("tokens", tokens_by, 2, 0), check.size("weight", weight.matrix, 2, 1),
                      weight.matrix.size(0), check.size("a", adapter.a, 2, 0)};
  check.rows("weight", weight.matrix, dtype, {widths.outputs, widths.inputs});
  check.tensor("a", adapter.a, dtype, {widths.rank, widths.inputs});
  check.tensor("b", adapter.b, dtype, {widths.outputs, widths.rank});
  if (weight.extended.defined()) {
    const int64_t room = weight.extended.size(1) - widths.inputs;
    check.tensor("extended", weight.extended, dtype, {widths.outputs + room, widths.inputs + room});
    check.that(room >= widths.rank && room % 8 == 0, "the room beside the weight does not hold the adapter");
    check.that(weight.extended.data_ptr() == weight.matrix.data_ptr(), "the weight is not in its extension's corner");
  }
  return widths;
}

}  // namespace

void adapted_linear(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const at::Tensor& branch,
                    const LinearWeight& weight, const LowRank& adapter) {
  const Check check("adapted_linear");
  const Widths w = check_adapter(check, x, weight, adapter);
  check.rows("x", x, w.dtype, {w.tokens, w.inputs});
  check.rows("branch", branch, w.dtype, {w.tokens, w.inputs});
  check.tensor("u", u, w.dtype, {w.tokens, w.rank});
  check.rows("y", y, w.dtype, {w.tokens, w.outputs});
  backend().adapted_linear(y, u, x, branch, weight, adapter);
}

void add_low_rank(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const LowRank& adapter) {
  const Check check("add_low_rank");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t tokens = check.size("x", x, 2, 0);
  const int64_t rank = check.size("a", adapter.a, 2, 0);
  const int64_t outputs = check.size("b", adapter.b, 2, 0);
  check.tensor("x", x, dtype, {tokens, x.size(1)});
  check.tensor("a", adapter.a, dtype, {rank, x.size(1)});
  check.tensor("b", adapter.b, dtype, {outputs, rank});
  check.tensor("u", u, dtype, {tokens, rank});
  check.tensor("y", y, dtype, {tokens, outputs});
  check.that(backend().add_low_rank != nullptr, "this back end does not generate");
  backend().add_low_rank(y, u, x, adapter);
}

void lora_output_gradient(const at::Tensor& grad_b, const at::Tensor& du, const at::Tensor& dy, const at::Tensor& u,
                          const LinearWeight& weight, const LowRank& adapter) {
  const Check check("lora_output_gradient");
  const Widths w = check_adapter(check, dy, weight, adapter);
  check.rows("dy", dy, w.dtype, {w.tokens, w.outputs});
  check.tensor("u", u, w.dtype, {w.tokens, w.rank});
  check.rows("du", du, w.dtype, {w.tokens, w.rank});
  check.tensor("grad_b", grad_b, wide_dtype(w.dtype), {w.outputs, w.rank});
  backend().lora_output_gradient(grad_b, du, dy, u, weight, adapter);
}

void adapted_input_gradient(const at::Tensor& dx, const at::Tensor& scratch, const at::Tensor& dy, const at::Tensor& du,
                            const LinearWeight& weight, const LowRank& adapter, const Documents& documents,
                            const DropoutKey& key) {
  const Check check("adapted_input_gradient");
  const Widths w = check_adapter(check, dy, weight, adapter);
  check.rows("dx", dx, w.dtype, {w.tokens, w.inputs});
  check.rows("dy", dy, w.dtype, {w.tokens, w.outputs});
  check.rows("du", du, w.dtype, {w.tokens, w.rank});
  if (key.p != 0.0) {
    check.tensor("scratch", scratch, w.dtype, {w.tokens, w.inputs});
    check.documents(documents, w.tokens);
    check.dropout(key, documents);
  }
  backend().adapted_input_gradient(dx, scratch, dy, du, weight, adapter, documents, key);
}

void lora_input_weight_gradient(const at::Tensor& grad_a, const at::Tensor& du, const at::Tensor& branch) {
  const Check check("lora_input_weight_gradient");
  const at::ScalarType dtype = check.compute_dtype("branch", branch);
  const int64_t tokens = check.size("branch", branch, 2, 0);
  const int64_t rank = check.size("du", du, 2, 1);
  check.rows("branch", branch, dtype, {tokens, branch.size(1)});
  check.rows("du", du, dtype, {tokens, rank});
  check.tensor("grad_a", grad_a, wide_dtype(dtype), {rank, branch.size(1)});
  backend().lora_input_weight_gradient(grad_a, du, branch);
}

void write_extension(const LinearWeight& weight, const at::Tensor& a, const at::Tensor& b, double scale) {
  if (!weight.extended.defined()) {
    return;
  }
  const Check check("write_extension");
  const at::ScalarType wide = wide_dtype(check.compute_dtype("weight", weight.matrix));
  const int64_t rank = check.size("a", a, 2, 0);
  check.tensor("a", a, wide, {rank, weight.matrix.size(1)});
  check.tensor("b", b, wide, {weight.matrix.size(0), rank});
  backend().write_extension(weight, a, b, scale);
}

}  // namespace phi3tune::ops
