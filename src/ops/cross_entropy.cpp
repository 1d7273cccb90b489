#include <ATen/ATen.h>

#include "ops/checks.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {

LossSums& LossSums::operator+=(const LossSums& other) noexcept {
  weighted_loss += other.weighted_loss;
  weight += other.weight;
  targets += other.targets;
  correct += other.correct;
  return *this;
}

at::Tensor definition::cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights) {
  const at::Tensor wide = logits.to(wide_dtype(logits.scalar_type()));
  const at::Tensor at_target = at::log_softmax(wide, 1).gather(1, targets.unsqueeze(1)).squeeze(1);
  return (weights * at_target).sum().neg();
}

LossSums cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
                       double gradient_scale, bool gradient) {
  const Check check("cross_entropy");
  const at::ScalarType dtype = check.compute_dtype("logits", logits);
  const int64_t rows = check.size("logits", logits, 2, 0);
  const int64_t vocabulary = logits.size(1);
  check.tensor("logits", logits, dtype, {rows, vocabulary});
  check.tensor("targets", targets, at::kLong, {rows});
  check.tensor("weights", weights, wide_dtype(dtype), {rows});
  if (targets.is_cpu()) {
    const auto* target = targets.const_data_ptr<int64_t>();
    for (int64_t row = 0; row < rows; ++row) {
      check.that(target[row] >= 0 && target[row] < vocabulary, "a target is outside the vocabulary");
    }
  }
  return backend().cross_entropy(logits, targets, weights, gradient_scale, gradient);
}

}  // namespace phi3tune::ops
