// The frozen linears and their NF4 form.
#include <ATen/ATen.h>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {

at::Tensor definition::linear(const at::Tensor& x, const at::Tensor& weight) { return at::matmul(x, weight.t()); }

at::Tensor definition::quantized_linear(const at::Tensor& x, const quant::Nf4Tensor& weight) {
  const at::Tensor dense = at::empty({weight.rows, weight.cols}, x.options());
  cpu_backend().dequantize(dense, weight, {});
  return definition::linear(x, dense);
}

void linear(const at::Tensor& y, const at::Tensor& x, const LinearWeight& weight) {
  const Check check("linear");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t tokens = check.size("x", x, 2, 0);
  const int64_t outputs = check.size("weight", weight.matrix, 2, 0);
  check.rows("x", x, dtype, {tokens, x.size(1)});
  check.rows("weight", weight.matrix, dtype, {outputs, x.size(1)});
  check.rows("y", y, dtype, {tokens, outputs});
  backend().linear(y, x, weight);
}

void quantized_linear(const at::Tensor& y, const at::Tensor& x, const quant::Nf4Tensor& weight) {
  const Check check("quantized_linear");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t tokens = check.size("x", x, 2, 0);
  check.that(tokens <= kFewRows, "more than kFewRows rows");
  check.rows("x", x, dtype, {tokens, weight.cols});
  check.rows("y", y, dtype, {tokens, weight.rows});
  check.that(static_cast<int64_t>(weight.packed.size()) == (weight.numel() + 1) / 2, "the NF4 tensor is not whole");
  check.that(backend().quantized_linear != nullptr, "this back end multiplies dequantised weights only");
  backend().quantized_linear(y, x, weight);
}

void linear_input_gradient(const at::Tensor& dx, const at::Tensor& dy, const LinearWeight& weight) {
  const Check check("linear_input_gradient");
  const at::ScalarType dtype = check.compute_dtype("dy", dy);
  const int64_t tokens = check.size("dy", dy, 2, 0);
  const int64_t inputs = check.size("weight", weight.matrix, 2, 1);
  check.rows("dy", dy, dtype, {tokens, dy.size(1)});
  check.rows("weight", weight.matrix, dtype, {dy.size(1), inputs});
  check.rows("dx", dx, dtype, {tokens, inputs});
  backend().linear_input_gradient(dx, dy, weight);
}

void dequantize(const at::Tensor& out, const quant::Nf4Tensor& weight, const at::Tensor& block) {
  const Check check("dequantize");
  check.rows("out", out, check.compute_dtype("out", out), {weight.rows, weight.cols});
  check.that(block.defined() || static_cast<int64_t>(weight.packed.size()) == (weight.numel() + 1) / 2,
             "the NF4 tensor is not whole");
  backend().dequantize(out, weight, block);
}

}  // namespace phi3tune::ops
