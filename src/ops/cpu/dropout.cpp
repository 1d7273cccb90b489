// Dropout of the LoRA branch: rows of documents, by the document's own stream.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"
#include "ops/cpu/document_rows.h"

namespace phi3tune::ops::cpu {

void dropout(const at::Tensor& out, const at::Tensor& x, const Documents& documents, const DropoutKey& key) {
  const int64_t columns = x.size(1);
  if (key.p == 0.0) {
    at::Tensor(out).copy_(x);
    return;
  }
  with_kernels(x.scalar_type(), [&]<typename T, typename W>(const Kernels<T, W>& k, T, W) {
    at::parallel_for(0, x.size(0), row_grain(4 * columns), [&](int64_t begin, int64_t end) {
      for_dropout_rows(documents, key, begin, end, [&](int64_t row, const DropoutRow& stream) {
        k.dropout(data<T>(out) + row * columns, data<T>(x) + row * columns, columns, stream);
      });
    });
  });
}

}  // namespace phi3tune::ops::cpu
