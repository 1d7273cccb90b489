// The low-rank branch: skinny products.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "ops/checks.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"
#include "ops/cpu/document_rows.h"

namespace phi3tune::ops::cpu {

void lora_forward(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const at::Tensor& a,
                  const at::Tensor& b, double scale) {
  at::Tensor low = u;
  at::mm_out(low, x, a.t());
  at::Tensor out = y;
  at::addmm_out(out, y, u, b.t(), 1.0, scale);
}

void lora_weight_gradients(const at::Tensor& grad_a, const at::Tensor& grad_b, const at::Tensor& du,
                           const at::Tensor& dy, const at::Tensor& x, const at::Tensor& u, const at::Tensor& b,
                           double scale) {
  at::Tensor low = du;
  at::addmm_out(low, du, dy, b, 0.0, scale);
  const at::ScalarType wide = wide_dtype(dy.scalar_type());
  at::Tensor(grad_b).addmm_(dy.to(wide).t(), u.to(wide), 1.0, scale);
  at::Tensor(grad_a).addmm_(du.to(wide).t(), x.to(wide));
}

void lora_input_gradient(const at::Tensor& dx, const at::Tensor& du, const at::Tensor& a, const Documents& documents,
                         const DropoutKey& key) {
  if (key.p == 0.0) {
    at::Tensor out = dx;
    at::addmm_out(out, dx, du, a);
    return;
  }
  const int64_t columns = dx.size(1);
  const int64_t rank = du.size(1);
  with_kernels(dx.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, dx.size(0), row_grain(4 * columns), [&](int64_t begin, int64_t end) {
      for_dropout_rows(documents, key, begin, end, [&](int64_t row, const DropoutRow& stream) {
        k.lora_input_gradient_dropout(data<T>(dx) + row * columns, data<T>(du) + row * rank, data<T>(a), columns, rank,
                                      stream);
      });
    });
  });
}

}  // namespace phi3tune::ops::cpu
