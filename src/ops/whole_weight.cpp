// Gradients of weights that are trained whole: the head's and the embedding's.
#include <ATen/ATen.h>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"

namespace phi3tune::ops {

void weight_gradient(const at::Tensor& grad, const at::Tensor& dy, const at::Tensor& x) {
  const Check check("weight_gradient");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t rows = check.size("x", x, 2, 0);
  const int64_t outputs = check.size("dy", dy, 2, 1);
  check.rows("x", x, dtype, {rows, x.size(1)});
  check.rows("dy", dy, dtype, {rows, outputs});
  check.tensor("grad", grad, wide_dtype(dtype), {outputs, x.size(1)});
  backend().weight_gradient(grad, dy, x);
}

void embedding_gradient(const at::Tensor& grad, const at::Tensor& dy, const at::Tensor& ids, int64_t padding_id) {
  const Check check("embedding_gradient");
  const at::ScalarType dtype = check.compute_dtype("dy", dy);
  const int64_t count = check.size("ids", ids, 1, 0);
  const int64_t vocabulary = check.size("grad", grad, 2, 0);
  check.tensor("ids", ids, at::kLong, {count});
  check.rows("dy", dy, dtype, {count, grad.size(1)});
  check.tensor("grad", grad, wide_dtype(dtype), {vocabulary, grad.size(1)});
  backend().embedding_gradient(grad, dy, ids, padding_id);
}

}  // namespace phi3tune::ops
