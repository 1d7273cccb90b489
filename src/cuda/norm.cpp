#include <ATen/ATen.h>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"

namespace phi3tune::cuda {

void rms_norm(const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, double eps) {
  with_dtype("rms_norm", x.scalar_type(), [&]<typename T>(T) {
    launched("rms_norm",
             kernels::rms_norm<T>(data<T>(y), ld(y), data<float>(rstd), data<T>(x), ld(x), data<T>(weight), x.size(0),
                                  x.size(1), static_cast<float>(eps), stream()),
             {&x});
  });
}

void add_rms_norm(const Tensor& y, const Tensor& rstd, const Tensor& sum, const Tensor& residual, const Tensor& delta,
                  const Tensor& weight, double eps) {
  with_dtype("add_rms_norm", sum.scalar_type(), [&]<typename T>(T) {
    launched(
        "add_rms_norm",
        kernels::add_rms_norm<T>(data<T>(y), ld(y), data<float>(rstd), data<T>(sum), data<T>(residual), data<T>(delta),
                                 data<T>(weight), sum.size(0), sum.size(1), static_cast<float>(eps), stream()),
        {&sum});
  });
}

void rms_norm_backward(const Tensor& dx, const Tensor& dy, const Tensor& x, const Tensor& rstd, const Tensor& weight) {
  with_dtype("rms_norm_backward", x.scalar_type(), [&]<typename T>(T) {
    launched("rms_norm_backward",
             kernels::rms_norm_backward<T>(data<T>(dx), ld(dx), data<T>(dy), ld(dy), data<T>(x), ld(x),
                                           data<float>(rstd), data<T>(weight), x.size(0), x.size(1), stream()),
             {&x});
  });
}

}  // namespace phi3tune::cuda
