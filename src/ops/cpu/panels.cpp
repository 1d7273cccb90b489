#include "ops/cpu/panels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <memory>

#include "ops/cpu/dispatch.h"

namespace phi3tune::ops::cpu {
namespace {

namespace blas = at::native::cpublas;

constexpr int64_t kRows = 512;     // of a and c at a time: the float32 sums of a block stay in the second-level cache
constexpr int64_t kColumns = 256;  // of b and c, one task
constexpr int64_t kDepth = 512;    // of the sum: a block of a, read by all panels of a task, stays in that cache too
constexpr int64_t kPanel = 64;     // columns of a packed panel, the widest that oneDNN packs

using Bf16 = at::BFloat16;

template <typename T>
std::unique_ptr<T[]> scratch(int64_t count) {
  return std::unique_ptr<T[]>(new T[static_cast<size_t>(count)]);
}

}  // namespace

bool has_panels(int64_t depth, int64_t columns) {
  static const bool has = blas::could_pack(at::kBFloat16);
  return has && depth % kPanel == 0 && columns % kPanel == 0;
}

void panel_product(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b) {
  const int64_t rows = a.size(0), depth = a.size(1), columns = b.size(1);
  const auto* a_data = data<const Bf16>(a);
  const auto* b_data = data<const Bf16>(b);
  auto* c_data = data<uint16_t>(c);
  const auto& kernels_bf16 = kernels().bf16;
  at::parallel_for(0, (columns + kColumns - 1) / kColumns, 1, [&](int64_t first_task, int64_t last_task) {
    const auto sums = scratch<float>(std::min(rows, kRows) * kColumns);
    const auto panel = scratch<Bf16>(kDepth * kPanel);
    for (int64_t task = first_task; task < last_task; ++task) {
      const int64_t column = task * kColumns;
      const int64_t width = std::min(kColumns, columns - column);
      for (int64_t row = 0; row < rows; row += kRows) {
        const int64_t height = std::min(kRows, rows - row);
        for (int64_t k = 0; k < depth; k += kDepth) {
          const int64_t step = std::min(kDepth, depth - k);
          for (int64_t j = 0; j < width; j += kPanel) {
            blas::pack(step, kPanel, columns, kPanel, at::kBFloat16, at::kBFloat16, b_data + k * columns + column + j,
                       panel.get());
            blas::brgemm(height, kPanel, step, depth, kPanel, width, k > 0, a_data + row * depth + k, panel.get(),
                         sums.get() + j);
          }
        }
        for (int64_t i = 0; i < height; ++i) {
          uint16_t* out = c_data + (row + i) * columns + column;
          kernels_bf16.round_sum(out, sums.get() + i * width, width);
        }
      }
    }
    blas::brgemm_release();
  });
}

}  // namespace phi3tune::ops::cpu
