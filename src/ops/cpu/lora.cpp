// The low-rank branch: skinny products.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "ops/checks.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"
#include "ops/cpu/document_rows.h"

namespace phi3tune::ops::cpu {
namespace {

constexpr int64_t kStrip = 256;  // columns of a task

// sum [rank, columns] = s^T x, handed strip by strip to add(first column, columns, sums).
template <typename T, typename W, typename Add>
void for_weight_gradient_strips(const Kernels<T, W>& kernels, const at::Tensor& x, const at::Tensor& s,
                                const Add& add) {
  const int64_t rows = x.size(0);
  const int64_t columns = x.size(1);
  const int64_t rank = s.size(1);
  at::parallel_for(0, (columns + kStrip - 1) / kStrip, 1, [&](int64_t begin, int64_t end) {
    std::vector<W> sums(static_cast<size_t>(rank * kStrip));
    for (int64_t first = begin * kStrip; first < std::min(end * kStrip, columns); first += kStrip) {
      const int64_t count = std::min(kStrip, columns - first);
      kernels.weight_gradient(sums.data(), data<T>(x) + first, data<W>(s), rows, count, columns, rank);
      add(first, count, sums.data());
    }
  });
}

// f(first, count) for parts of a matrix's rows.
template <typename F>
void for_rows_of(const at::Tensor& matrix, const F& f) {
  at::parallel_for(0, matrix.size(0), row_grain(matrix.size(1) / 4),
                   [&](int64_t begin, int64_t end) { f(begin, end - begin); });
}

}  // namespace

void adapted_linear(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const at::Tensor& branch,
                    const LinearWeight& weight, const LowRank& adapter) {
  cpu::linear(y, x, weight);
  cpu::add_low_rank(y, u, branch, adapter);
}

void add_low_rank(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const LowRank& adapter) {
  if (x.size(0) <= kFewRows) {
    with_kernels(x.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
      for_rows_of(adapter.a, [&](int64_t first, int64_t count) {
        for (int64_t i = 0; i < x.size(0); ++i) {
          k.vector_dots(data<T>(u) + i * u.size(1) + first, data<T>(x) + i * x.size(1),
                        data<T>(adapter.a) + first * x.size(1), count, x.size(1));
        }
      });
      for_rows_of(adapter.b, [&](int64_t first, int64_t count) {
        for (int64_t i = 0; i < x.size(0); ++i) {
          k.add_vector_dots(data<T>(y) + i * y.size(1) + first, data<T>(u) + i * u.size(1),
                            data<T>(adapter.b) + first * u.size(1), count, u.size(1), adapter.scale);
        }
      });
    });
    return;
  }
  at::Tensor low = u;
  at::mm_out(low, x, adapter.a.t());
  at::Tensor out = y;
  at::addmm_out(out, y, u, adapter.b.t(), 1.0, adapter.scale);
}

void lora_output_gradient(const at::Tensor& grad_b, const at::Tensor& du, const at::Tensor& dy, const at::Tensor& u,
                          const LinearWeight& /*weight*/, const LowRank& adapter) {
  at::Tensor low = du;
  at::addmm_out(low, du, dy, adapter.b, 0.0, adapter.scale);
  const at::ScalarType wide = wide_dtype(dy.scalar_type());
  const int64_t rank = adapter.b.size(1);
  with_kernels(dy.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    const W factor = static_cast<W>(adapter.scale);
    for_weight_gradient_strips(k, dy, u.to(wide), [&](int64_t first, int64_t count, const W* sums) {
      W* to = data<W>(grad_b) + first * rank;
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t j = 0; j < rank; ++j) {
          to[i * rank + j] += factor * sums[j * count + i];
        }
      }
    });
  });
}

void lora_input_weight_gradient(const at::Tensor& grad_a, const at::Tensor& du, const at::Tensor& branch) {
  const at::ScalarType wide = wide_dtype(branch.scalar_type());
  const int64_t columns = branch.size(1);
  with_kernels(branch.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    for_weight_gradient_strips(k, branch, du.to(wide), [&](int64_t first, int64_t count, const W* sums) {
      for (int64_t j = 0; j < du.size(1); ++j) {
        W* to = data<W>(grad_a) + j * columns + first;
        for (int64_t i = 0; i < count; ++i) {
          to[i] += sums[j * count + i];
        }
      }
    });
  });
}

void adapted_input_gradient(const at::Tensor& dx, const at::Tensor& /*scratch*/, const at::Tensor& dy,
                            const at::Tensor& du, const LinearWeight& weight, const LowRank& adapter,
                            const Documents& documents, const DropoutKey& key) {
  cpu::linear_input_gradient(dx, dy, weight);
  if (key.p == 0.0) {
    at::Tensor out = dx;
    at::addmm_out(out, dx, du, adapter.a);
    return;
  }
  const int64_t columns = dx.size(1);
  const int64_t rank = du.size(1);
  with_kernels(dx.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, dx.size(0), row_grain(4 * columns), [&](int64_t begin, int64_t end) {
      for_dropout_rows(documents, key, begin, end, [&](int64_t row, const DropoutRow& stream) {
        k.lora_input_gradient_dropout(data<T>(dx) + row * columns, data<T>(du) + row * rank, data<T>(adapter.a),
                                      columns, rank, stream);
      });
    });
  });
}

void write_extension(const LinearWeight& /*weight*/, const at::Tensor& /*a*/, const at::Tensor& /*b*/,
                     double /*scale*/) {}  // rows have no room here

}  // namespace phi3tune::ops::cpu
