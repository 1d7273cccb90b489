#include <ATen/ATen.h>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"

namespace phi3tune::cuda {

void swiglu(const Tensor& hidden, const Tensor& gate_up) {
  with_dtype("swiglu", hidden.scalar_type(), [&]<typename T>(T) {
    launched("swiglu",
             kernels::swiglu<T>(data<T>(hidden), ld(hidden), data<T>(gate_up), ld(gate_up), hidden.size(0),
                                hidden.size(1), stream()),
             {&gate_up});
  });
}

void swiglu_backward(const Tensor& d_gate_up, const Tensor& hidden, const Tensor& d_hidden, const Tensor& gate_up) {
  with_dtype("swiglu_backward", d_hidden.scalar_type(), [&]<typename T>(T) {
    launched("swiglu_backward",
             kernels::swiglu_backward<T>(data<T>(d_gate_up), ld(d_gate_up), data<T>(hidden),
                                         hidden.defined() ? ld(hidden) : 0, data<T>(d_hidden), ld(d_hidden),
                                         data<T>(gate_up), ld(gate_up), d_hidden.size(0), d_hidden.size(1), stream()),
             {&gate_up});
  });
}

}  // namespace phi3tune::cuda
