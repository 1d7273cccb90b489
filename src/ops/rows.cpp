#include <ATen/ATen.h>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {
namespace {

// Of the host's ids only: a device's are checked before they are sent.
void check_range(const Check& check, const at::Tensor& ids, int64_t limit, bool ascending) {
  if (!ids.is_cpu()) {
    return;
  }
  const auto* id = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    check.that(id[i] >= 0 && id[i] < limit, "an index is out of range");
    check.that(!ascending || i == 0 || id[i - 1] < id[i], "rows must ascend");
  }
}

}  // namespace

at::Tensor definition::gather_rows(const at::Tensor& table, const at::Tensor& ids) {
  return table.index_select(0, ids);
}

void gather_rows(const at::Tensor& out, const at::Tensor& table, const at::Tensor& ids) {
  const Check check("gather_rows");
  const at::ScalarType dtype = check.compute_dtype("table", table);
  const int64_t count = check.size("ids", ids, 1, 0);
  const int64_t rows = check.size("table", table, 2, 0);
  check.tensor("ids", ids, at::kLong, {count});
  check.tensor("table", table, dtype, {rows, table.size(1)});
  check.rows("out", out, dtype, {count, table.size(1)});
  check_range(check, ids, rows, false);
  backend().gather_rows(out, table, ids);
}

at::Tensor definition::scatter_rows(const at::Tensor& x, const at::Tensor& rows, int64_t count) {
  return at::zeros({count, x.size(1)}, x.options()).index_copy(0, rows, x);
}

void scatter_rows(const at::Tensor& out, const at::Tensor& x, const at::Tensor& rows) {
  const Check check("scatter_rows");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t count = check.size("rows", rows, 1, 0);
  const int64_t tokens = check.size("out", out, 2, 0);
  check.tensor("rows", rows, at::kLong, {count});
  check.tensor("x", x, dtype, {count, out.size(1)});
  check.rows("out", out, dtype, {tokens, out.size(1)});
  check_range(check, rows, tokens, true);
  backend().scatter_rows(out, x, rows);
}

}  // namespace phi3tune::ops
