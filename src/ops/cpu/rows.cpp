// Copies of rows: gather, scatter; and the conversions of flat buffers.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"

namespace phi3tune::ops::cpu {
namespace {

// out[i] = in[rows[i]] for rows of `bytes` bytes.
void copy_rows(std::byte* out, const std::byte* in, const int64_t* rows, int64_t count, int64_t bytes) {
  at::parallel_for(0, count, row_grain(bytes / 2), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(out + i * bytes, in + rows[i] * bytes, static_cast<size_t>(bytes));
    }
  });
}

int64_t row_bytes(const at::Tensor& tensor) { return tensor.size(1) * tensor.element_size(); }

}  // namespace

void gather_rows(const at::Tensor& out, const at::Tensor& table, const at::Tensor& ids) {
  copy_rows(data<std::byte>(out), data<const std::byte>(table), data<const int64_t>(ids), ids.numel(),
            row_bytes(table));
}

void scatter_rows(const at::Tensor& out, const at::Tensor& x, const at::Tensor& rows) {
  const int64_t bytes = row_bytes(x);
  const auto* index = data<const int64_t>(rows);
  const int64_t count = rows.numel();
  at::parallel_for(0, out.size(0), row_grain(bytes / 2), [&](int64_t begin, int64_t end) {
    int64_t next = std::lower_bound(index, index + count, begin) - index;
    for (int64_t row = begin; row < end; ++row) {
      std::byte* to = data<std::byte>(out) + row * bytes;
      if (next < count && index[next] == row) {
        std::memcpy(to, data<const std::byte>(x) + next * bytes, static_cast<size_t>(bytes));
        ++next;
      } else {
        std::memset(to, 0, static_cast<size_t>(bytes));
      }
    }
  });
}

void convert(const at::Tensor& out, const at::Tensor& in) { out.copy_(in); }

}  // namespace phi3tune::ops::cpu
