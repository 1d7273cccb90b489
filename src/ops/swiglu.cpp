#include <ATen/ATen.h>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {

at::Tensor definition::swiglu(const at::Tensor& gate_up) {
  const int64_t dim = gate_up.size(1) / 2;
  return gate_up.narrow(1, dim, dim) * at::silu(gate_up.narrow(1, 0, dim));
}

void swiglu(const at::Tensor& hidden, const at::Tensor& gate_up) {
  const Check check("swiglu");
  const at::ScalarType dtype = check.compute_dtype("hidden", hidden);
  const int64_t tokens = check.size("hidden", hidden, 2, 0);
  check.rows("hidden", hidden, dtype, {tokens, hidden.size(1)});
  check.rows("gate_up", gate_up, dtype, {tokens, 2 * hidden.size(1)});
  backend().swiglu(hidden, gate_up);
}

void swiglu_backward(const at::Tensor& d_gate_up, const at::Tensor& hidden, const at::Tensor& d_hidden,
                     const at::Tensor& gate_up) {
  const Check check("swiglu_backward");
  const at::ScalarType dtype = check.compute_dtype("d_hidden", d_hidden);
  const int64_t tokens = check.size("d_hidden", d_hidden, 2, 0);
  const int64_t dim = d_hidden.size(1);
  check.rows("d_hidden", d_hidden, dtype, {tokens, dim});
  check.rows("gate_up", gate_up, dtype, {tokens, 2 * dim});
  check.rows("d_gate_up", d_gate_up, dtype, {tokens, 2 * dim});
  if (hidden.defined()) {
    check.rows("hidden", hidden, dtype, {tokens, dim});
  }
  backend().swiglu_backward(d_gate_up, hidden, d_hidden, gate_up);
}

}  // namespace phi3tune::ops
