#include "phi3tune/train/step_ring.h"

#include <ATen/ATen.h>

#include "phi3tune/ops/backend.h"
#include "phi3tune/plan/run_plan.h"

namespace phi3tune::train {

static_assert(ops::kNormBlock == plan::kNormBlock, "partial sums of the norm are planned as they are taken");

StepRing::StepRing(model::Arena& arena, int64_t steps, int64_t micro_batches, int64_t evaluation_batches,
                   int64_t parameters)
    : steps_(steps), micro_batches_(micro_batches) {
  plan::RunShape shape;
  shape.ring_steps = steps;
  shape.micro_batches = micro_batches;
  shape.evaluation_batches = evaluation_batches;
  shape.parameters = parameters;
  const auto buffers = plan::declare_control(shape);
  const auto block = arena.part(plan::Part::kControl, buffers.bytes);
  row_ = buffers.ring_row;
  ring_ = model::view(block, buffers.ring, at::kDouble, steps, row_, row_);
  control_ = model::view(block, buffers.control, at::kDouble, 2);
  const int64_t partials = (parameters + ops::kNormBlock - 1) / ops::kNormBlock;
  partials_ = model::view(block, buffers.partials, at::kDouble, partials);
  evaluation_ = model::view(block, buffers.evaluation, at::kDouble, evaluation_batches, 2, 2);
  control_.zero_();
}

void StepRing::clear(int64_t place) { ring_.select(0, place).zero_(); }

at::Tensor StepRing::losses(int64_t place) const {
  return ring_.select(0, place).narrow(0, 0, 2 * micro_batches_).view({micro_batches_, 2});
}
at::Tensor StepRing::losses(int64_t place, int64_t micro_batch) const {
  return ring_.select(0, place).narrow(0, 2 * micro_batch, 2);
}
at::Tensor StepRing::norm(int64_t place) const { return ring_.select(0, place).narrow(0, 2 * micro_batches_, 1); }

at::Tensor StepRing::evaluation() const { return at::Tensor(evaluation_).zero_(); }

std::vector<StepRing::Numbers> StepRing::read(int64_t count) const {
  std::vector<double> values(static_cast<size_t>(count * row_));
  ops::backend().memory.download(values.data(), ring_.narrow(0, 0, count));
  std::vector<Numbers> steps;
  for (int64_t place = 0; place < count; ++place) {
    const double* row = values.data() + place * row_;
    Numbers numbers;
    for (int64_t i = 0; i < micro_batches_; ++i) {
      numbers.losses.push_back(row[2 * i]);
    }
    numbers.norm = row[2 * micro_batches_];
    steps.push_back(std::move(numbers));
  }
  return steps;
}

}  // namespace phi3tune::train
