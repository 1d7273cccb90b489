// Rows taken, put back, added; casts.
#include <ATen/ATen.h>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"

namespace phi3tune::cuda {

void gather_rows(const Tensor& out, const Tensor& table, const Tensor& ids) {
  with_dtype("gather_rows", table.scalar_type(), [&]<typename T>(T) {
    launched("gather_rows",
             kernels::gather_rows<T>(data<T>(out), ld(out), data<T>(table), ld(table), data<int64_t>(ids), out.size(0),
                                     out.size(1), stream()),
             {&out});
  });
}

void scatter_rows(const Tensor& out, const Tensor& x, const Tensor& rows) {
  with_dtype("scatter_rows", x.scalar_type(), [&]<typename T>(T) {
    launched("scatter_rows",
             kernels::scatter_rows<T>(data<T>(out), ld(out), data<T>(x), ld(x), data<int64_t>(rows), x.size(0),
                                      out.size(0), out.size(1), stream()),
             {&out, &x});
  });
}

void add(const Tensor& sum, const Tensor& residual, const Tensor& delta) {
  with_dtype("add", sum.scalar_type(), [&]<typename T>(T) {
    launched("add",
             kernels::add<T>(data<T>(sum), ld(sum), data<T>(residual), ld(residual), data<T>(delta), ld(delta),
                             sum.size(0), sum.size(1), stream()),
             {&sum});
  });
}

void convert(const Tensor& out, const Tensor& in) {
  const int64_t n = in.numel();
  with_dtype("convert", out.scalar_type(), [&]<typename Out>(Out) {
    with_dtype("convert", in.scalar_type(), [&]<typename In>(In) {
      launched("convert", kernels::convert<Out, In>(data<Out>(out), n, data<In>(in), n, 1, n, 1.0F, stream()), {&in});
    });
  });
}

}  // namespace phi3tune::cuda
