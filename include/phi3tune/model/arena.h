// The memory of a run: one block, cut by the plan; or, where nothing was planned (tests, single passes), memory of its
// own for each part.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <optional>

#include "phi3tune/plan/run_plan.h"

namespace phi3tune::model {

class Arena {
 public:
  // Each part takes memory when it is asked for, and is replaced when more is asked for.
  Arena() = default;
  // Takes the block. Throws ResourceError.
  explicit Arena(const plan::RunPlan& plan);

  // `bytes` of the part, uint8, contents undefined. With a plan, asking for more than it says is InternalError. Asking
  // again gives the same memory.
  at::Tensor part(plan::Part part, size_t bytes);
  // Host memory for offloaded activations.
  at::Tensor host(size_t bytes);
  // Writes to every page of a part of the block, so that a machine that promised more memory than it has fails now.
  void touch(plan::Part part);

  // The largest size each part was asked for, to be held against the plan.
  size_t high_water(plan::Part part) const noexcept { return asked_[static_cast<size_t>(part)]; }
  size_t high_water() const noexcept;

 private:
  std::optional<plan::RunPlan> plan_;
  at::Tensor block_;
  std::array<at::Tensor, plan::kParts> own_;
  std::array<size_t, plan::kParts> asked_{};
  at::Tensor host_;
};

// Views do not keep the block alive.
//
// Elements of a block: rows x cols with rows `ld` apart, beginning `offset` bytes into it.
at::Tensor view(const at::Tensor& block, size_t offset, at::ScalarType dtype, int64_t rows, int64_t cols, int64_t ld);
// A flat view [count].
at::Tensor view(const at::Tensor& block, size_t offset, at::ScalarType dtype, int64_t count);

}  // namespace phi3tune::model
