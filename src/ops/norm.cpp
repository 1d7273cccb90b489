#include <ATen/ATen.h>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {

at::Tensor definition::rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.to(wide_dtype(x.scalar_type()));
  const at::Tensor rstd = wide.square().mean(-1, true).add(eps).rsqrt();
  return weight * (wide * rstd).to(x.scalar_type());
}

void rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& x, const at::Tensor& weight, double eps) {
  const Check check("rms_norm");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t tokens = check.size("x", x, 2, 0);
  const int64_t dim = x.size(1);
  check.tensor("x", x, dtype, {tokens, dim});
  check.rows("y", y, dtype, {tokens, dim});
  check.tensor("rstd", rstd, wide_dtype(dtype), {tokens});
  check.tensor("weight", weight, dtype, {dim});
  backend().rms_norm(y, rstd, x, weight, eps);
}

void add_rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& sum, const at::Tensor& residual,
                  const at::Tensor& delta, const at::Tensor& weight, double eps) {
  const Check check("add_rms_norm");
  const at::ScalarType dtype = check.compute_dtype("residual", residual);
  const int64_t tokens = check.size("residual", residual, 2, 0);
  const int64_t dim = residual.size(1);
  check.tensor("residual", residual, dtype, {tokens, dim});
  check.tensor("sum", sum, dtype, {tokens, dim});
  check.tensor("delta", delta, dtype, {tokens, dim});
  check.rows("y", y, dtype, {tokens, dim});
  check.tensor("rstd", rstd, wide_dtype(dtype), {tokens});
  check.tensor("weight", weight, dtype, {dim});
  backend().add_rms_norm(y, rstd, sum, residual, delta, weight, eps);
}

void rms_norm_backward(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd,
                       const at::Tensor& weight) {
  const Check check("rms_norm_backward");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t tokens = check.size("x", x, 2, 0);
  const int64_t dim = x.size(1);
  check.tensor("x", x, dtype, {tokens, dim});
  check.tensor("dy", dy, dtype, {tokens, dim});
  check.rows("dx", dx, dtype, {tokens, dim});
  check.tensor("rstd", rstd, wide_dtype(dtype), {tokens});
  check.tensor("weight", weight, dtype, {dim});
  backend().rms_norm_backward(dx, dy, x, rstd, weight);
}

void add(const at::Tensor& sum, const at::Tensor& residual, const at::Tensor& delta) {
  const Check check("add");
  const at::ScalarType dtype = check.compute_dtype("residual", residual);
  const int64_t tokens = check.size("residual", residual, 2, 0);
  check.tensor("residual", residual, dtype, {tokens, residual.size(1)});
  check.tensor("delta", delta, dtype, {tokens, residual.size(1)});
  check.tensor("sum", sum, dtype, {tokens, residual.size(1)});
  backend().add(sum, residual, delta);
}

}  // namespace phi3tune::ops
