#include <ATen/ATen.h>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {

at::Tensor definition::cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights) {
  const at::Tensor wide = logits.to(wide_dtype(logits.scalar_type()));
  const at::Tensor at_target = at::log_softmax(wide, 1).gather(1, targets.unsqueeze(1)).squeeze(1);
  return (weights * at_target).sum().neg();
}

void cross_entropy(const at::Tensor& sums, const at::Tensor& row_losses, const at::Tensor& logits,
                   const at::Tensor& targets, const at::Tensor& weights, double gradient_scale, bool gradient) {
  const Check check("cross_entropy");
  const at::ScalarType dtype = check.compute_dtype("logits", logits);
  const int64_t rows = check.size("logits", logits, 2, 0);
  const int64_t vocabulary = logits.size(1);
  check.tensor("logits", logits, dtype, {rows, vocabulary});
  check.tensor("targets", targets, at::kLong, {rows});
  check.tensor("weights", weights, wide_dtype(dtype), {rows});
  check.tensor("sums", sums, at::kDouble, {2});
  check.tensor("row_losses", row_losses, wide_dtype(dtype), {2, check.size("row_losses", row_losses, 2, 1)});
  check.that(row_losses.size(1) >= rows, "row_losses has no place for every row");
  if (targets.is_cpu()) {
    const auto* target = targets.const_data_ptr<int64_t>();
    for (int64_t row = 0; row < rows; ++row) {
      check.that(target[row] >= 0 && target[row] < vocabulary, "a target is outside the vocabulary");
    }
  }
  backend().cross_entropy(sums, row_losses, logits, targets, weights, gradient_scale, gradient);
}

}  // namespace phi3tune::ops
