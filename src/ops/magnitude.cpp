#include "phi3tune/ops/magnitude.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"

namespace phi3tune::ops {
namespace {

constexpr int64_t kStrip = 256;  // columns of a task

// Calls f(T{}, W{}) for the compute dtype and its wide dtype.
template <typename F>
void with_types(at::ScalarType dtype, const F& f) {
  if (dtype == at::kDouble) {
    f(double{}, double{});
  } else if (dtype == at::kFloat) {
    f(float{}, float{});
  } else {
    f(at::BFloat16{}, float{});
  }
}

}  // namespace

void scale_columns(const at::Tensor& out, const at::Tensor& x, const at::Tensor& factors) {
  const Check check("scale_columns");
  check.that(!backend().extended, "only the CPU does it");
  const auto dtype = check.compute_dtype("x", x);
  const int64_t rows = check.size("x", x, 2, 0);
  const int64_t columns = x.size(1);
  check.tensor("x", x, dtype, {rows, columns});
  check.tensor("out", out, dtype, {rows, columns});
  check.tensor("factors", factors, wide_dtype(dtype), {columns});
  with_types(dtype, [&]<typename T, typename W>(T, W) {
    const auto* from = x.const_data_ptr<T>();
    auto* to = out.mutable_data_ptr<T>();
    const auto* factor = factors.const_data_ptr<W>();
    at::parallel_for(0, rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, columns)),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end; ++i) {
                         for (int64_t j = 0; j < columns; ++j) {
                           to[i * columns + j] = static_cast<T>(static_cast<W>(from[i * columns + j]) * factor[j]);
                         }
                       }
                     });
  });
}

void column_products(const at::Tensor& sums, const at::Tensor& x, const at::Tensor& y, const at::Tensor& divisors) {
  const Check check("column_products");
  check.that(!backend().extended, "only the CPU does it");
  const auto dtype = check.compute_dtype("x", x);
  const int64_t rows = check.size("x", x, 2, 0);
  const int64_t columns = x.size(1);
  check.tensor("x", x, dtype, {rows, columns});
  check.tensor("y", y, dtype, {rows, columns});
  check.tensor("sums", sums, wide_dtype(dtype), {columns});
  check.tensor("divisors", divisors, wide_dtype(dtype), {columns});
  with_types(dtype, [&]<typename T, typename W>(T, W) {
    const auto* left = x.const_data_ptr<T>();
    const auto* right = y.const_data_ptr<T>();
    const auto* divisor = divisors.const_data_ptr<W>();
    auto* to = sums.mutable_data_ptr<W>();
    at::parallel_for(0, (columns + kStrip - 1) / kStrip, 1, [&](int64_t begin, int64_t end) {
      std::vector<double> strip(static_cast<size_t>(kStrip));
      for (int64_t first = begin * kStrip; first < std::min(end * kStrip, columns); first += kStrip) {
        const int64_t count = std::min(kStrip, columns - first);
        std::fill(strip.begin(), strip.end(), 0.0);
        for (int64_t i = 0; i < rows; ++i) {
          const int64_t row = i * columns + first;
          for (int64_t j = 0; j < count; ++j) {
            strip[static_cast<size_t>(j)] += static_cast<double>(left[row + j]) * static_cast<double>(right[row + j]);
          }
        }
        for (int64_t j = 0; j < count; ++j) {
          to[first + j] += static_cast<W>(strip[static_cast<size_t>(j)] / static_cast<double>(divisor[first + j]));
        }
      }
    });
  });
}

}  // namespace phi3tune::ops
