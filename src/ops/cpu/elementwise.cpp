// Norms, residual, RoPE and SwiGLU: our vector kernels over rows, each row by one thread.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"

namespace phi3tune::ops::cpu {

void rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& x, const at::Tensor& weight, double eps) {
  const int64_t dim = x.size(1);
  with_kernels(x.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, x.size(0), row_grain(dim), [&](int64_t begin, int64_t end) {
      k.rms_norm(data<T>(y) + begin * dim, data<W>(rstd) + begin, data<T>(x) + begin * dim, data<T>(weight),
                 end - begin, dim, eps);
    });
  });
}

void add_rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& sum, const at::Tensor& residual,
                  const at::Tensor& delta, const at::Tensor& weight, double eps) {
  const int64_t dim = residual.size(1);
  with_kernels(residual.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, residual.size(0), row_grain(dim), [&](int64_t begin, int64_t end) {
      k.add_rms_norm(data<T>(y) + begin * dim, data<W>(rstd) + begin, data<T>(sum) + begin * dim,
                     data<T>(residual) + begin * dim, data<T>(delta) + begin * dim, data<T>(weight), end - begin, dim,
                     eps);
    });
  });
}

void rms_norm_backward(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd,
                       const at::Tensor& weight) {
  const int64_t dim = x.size(1);
  with_kernels(x.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, x.size(0), row_grain(dim), [&](int64_t begin, int64_t end) {
      k.rms_norm_backward(data<T>(dx) + begin * dim, data<T>(dy) + begin * dim, data<T>(x) + begin * dim,
                          data<W>(rstd) + begin, data<T>(weight), end - begin, dim);
    });
  });
}

void add(const at::Tensor& sum, const at::Tensor& residual, const at::Tensor& delta) {
  with_kernels(residual.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, residual.numel(), row_grain(1), [&](int64_t begin, int64_t end) {
      k.add(data<T>(sum) + begin, data<T>(residual) + begin, data<T>(delta) + begin, end - begin);
    });
  });
}

void rope(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, const HeadShape& heads,
          bool inverse) {
  const int64_t stride = qkv.size(1);
  const int64_t half = heads.rotary_dim / 2;
  with_kernels(qkv.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, qkv.size(0), row_grain(stride), [&](int64_t begin, int64_t end) {
      k.rope(data<T>(qkv) + begin * stride, data<W>(cosine) + begin * half, data<W>(sine) + begin * half, end - begin,
             stride, heads.num_heads + heads.num_kv_heads, heads.head_dim, half, inverse);
    });
  });
}

void swiglu(const at::Tensor& hidden, const at::Tensor& gate_up) {
  const int64_t dim = hidden.size(1);
  with_kernels(hidden.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, hidden.size(0), row_grain(dim), [&](int64_t begin, int64_t end) {
      k.swiglu(data<T>(hidden) + begin * dim, data<T>(gate_up) + begin * 2 * dim, end - begin, dim);
    });
  });
}

void swiglu_backward(const at::Tensor& d_gate_up, const at::Tensor& hidden, const at::Tensor& d_hidden,
                     const at::Tensor& gate_up) {
  const int64_t dim = d_hidden.size(1);
  with_kernels(d_hidden.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, d_hidden.size(0), row_grain(dim), [&](int64_t begin, int64_t end) {
      // Row by row: hidden may be d_hidden, and d_gate_up may be gate_up.
      std::vector<T> again(hidden.defined() ? static_cast<size_t>(dim) : 0);
      for (int64_t row = begin; row < end; ++row) {
        const T* gates = data<T>(gate_up) + row * 2 * dim;
        if (hidden.defined()) {
          k.swiglu(again.data(), gates, 1, dim);
        }
        k.swiglu_backward(data<T>(d_gate_up) + row * 2 * dim, data<T>(d_hidden) + row * dim, gates, 1, dim);
        if (hidden.defined()) {
          std::copy(again.begin(), again.end(), data<T>(hidden) + row * dim);
        }
      }
    });
  });
}

}  // namespace phi3tune::ops::cpu
