#include "phi3tune/model/arena.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "phi3tune/core/error.h"
#include "phi3tune/ops/backend.h"

namespace phi3tune::model {

Arena::Arena(const plan::RunPlan& plan) : plan_(plan), block_(ops::backend().memory.allocate(plan.total())) {}

at::Tensor Arena::part(plan::Part part, size_t bytes) {
  const auto index = static_cast<size_t>(part);
  asked_[index] = std::max(asked_[index], bytes);
  const auto length = static_cast<int64_t>(bytes);
  if (plan_) {
    if (bytes > plan_->bytes[index]) {
      throw InternalError("internal error: {}: {} bytes are asked for, {} are planned", plan::part_name(part), bytes,
                          plan_->bytes[index]);
    }
    return block_.narrow(0, static_cast<int64_t>(plan_->offset(part)), length);
  }
  auto& own = own_[index];
  if (!own.defined() || own.numel() < length) {
    own = at::Tensor();  // give back before taking more
    own = ops::backend().memory.allocate(bytes);
  }
  return own.narrow(0, 0, length);
}

at::Tensor Arena::host(size_t bytes) {
  const auto length = static_cast<int64_t>(bytes);
  if (!host_.defined() || host_.numel() < length) {
    host_ = at::Tensor();
    host_ = ops::backend().memory.allocate_host(bytes);
  }
  return host_.narrow(0, 0, length);
}

void Arena::touch(plan::Part part) {
  if (plan_) {
    block_
        .narrow(0, static_cast<int64_t>(plan_->offset(part)),
                static_cast<int64_t>(plan_->bytes[static_cast<size_t>(part)]))
        .zero_();
  }
}

size_t Arena::high_water() const noexcept { return std::accumulate(asked_.begin(), asked_.end(), size_t{0}); }

at::Tensor view(const at::Tensor& block, size_t offset, at::ScalarType dtype, int64_t rows, int64_t cols, int64_t ld) {
  // Whole rows first: what lies behind a row belongs to its storage.
  const auto whole = view(block, offset, dtype, rows * ld).view({rows, ld});
  return ld == cols ? whole : whole.narrow(1, 0, cols);
}

at::Tensor view(const at::Tensor& block, size_t offset, at::ScalarType dtype, int64_t count) {
  auto* begin = static_cast<std::byte*>(block.data_ptr()) + offset;
  return at::for_blob(begin, {count}).target_device(block.device()).options(block.options().dtype(dtype)).make_tensor();
}

}  // namespace phi3tune::model
