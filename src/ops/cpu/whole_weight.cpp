#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "ops/checks.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"

namespace phi3tune::ops::cpu {

// bf16 products would be rounded before they are added: blocks of outputs are widened, so that little memory is taken.
void weight_gradient(const at::Tensor& grad, const at::Tensor& dy, const at::Tensor& x) {
  constexpr int64_t kBlock = 2048;
  const at::ScalarType wide = wide_dtype(x.scalar_type());
  const auto wide_x = x.to(wide);
  for (int64_t first = 0; first < grad.size(0); first += kBlock) {
    const int64_t count = std::min(kBlock, grad.size(0) - first);
    auto part = grad.narrow(0, first, count);
    at::addmm_out(part, part, dy.narrow(1, first, count).t().to(wide), wide_x);
  }
}

// A task has columns to itself and walks the rows in order, so that the sums do not depend on the threads.
void embedding_gradient(const at::Tensor& grad, const at::Tensor& dy, const at::Tensor& ids, int64_t padding_id) {
  constexpr int64_t kColumns = 64;
  const int64_t columns = grad.size(1);
  const auto* id = data<const int64_t>(ids);
  const auto add = [&]<typename T, typename W>(T, W) {
    at::parallel_for(0, (columns + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kColumns;
      const int64_t last = std::min(end * kColumns, columns);
      for (int64_t row = 0; row < ids.numel(); ++row) {
        if (id[row] == padding_id) {
          continue;
        }
        const T* from = data<T>(dy) + row * columns;
        W* to = data<W>(grad) + id[row] * columns;
        for (int64_t i = first; i < last; ++i) {
          to[i] += static_cast<W>(from[i]);
        }
      }
    });
  };
  switch (dy.scalar_type()) {
    case at::kDouble:
      return add(double{}, double{});
    case at::kBFloat16:
      return add(at::BFloat16{}, float{});
    default:
      return add(float{}, float{});
  }
}

}  // namespace phi3tune::ops::cpu
