#include "warm_up.h"

#include <ATen/ATen.h>

#include <chrono>

#include "cuda_plugin.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/core/text.h"

namespace phi3tune::commands {
namespace {

// Documents of about one length, every token but the last of each trained, as far as the shape says.
model::TokenBatch largest_batch(const plan::StepShape& shape, at::ScalarType wide) {
  model::TokenBatch batch;
  batch.input_ids = at::zeros({shape.tokens}, at::kLong);
  batch.cu_seqlens.push_back(0);
  for (int64_t i = 1; i <= shape.documents; ++i) {
    batch.cu_seqlens.push_back(static_cast<int32_t>(shape.tokens * i / shape.documents));
    batch.sample_ids.push_back(static_cast<uint64_t>(i));
  }
  batch.target_rows = at::arange(shape.trained_rows, at::kLong);
  batch.targets = at::zeros({shape.trained_rows}, at::kLong);
  batch.weights = at::ones({shape.trained_rows}, wide);
  return batch;
}

// Seconds of a pass, from its start to when the back end has done it.
template <typename Pass>
double timed(const Pass& pass) {
  const auto& memory = ops::backend().memory;
  const auto started = std::chrono::steady_clock::now();
  const auto block = memory.allocate(2 * sizeof(double));
  const auto sums = model::view(block, 0, at::kDouble, 2);
  pass(sums);
  double found[2] = {};
  memory.download(found, sums);  // a fault of the device is met here
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

}  // namespace

void touch(model::Arena& arena, const Compute& compute) {
  for (size_t part = 0; part < plan::kParts; ++part) {
    if (stop_requested()) {
      throw Interrupted("stopped before the first step: nothing was trained yet");
    }
    arena.touch(static_cast<plan::Part>(part));
  }
  arena.host(compute.plan.plan.host_bytes).zero_();
}

void try_training(train::Learner& learner, const Compute& compute) {
  const auto batch = largest_batch(compute.plan.shape.step, learner.wide_dtype());
  const double seconds = timed([&](const at::Tensor& sums) {
    learner.forward_backward(batch, 1.0, 0, sums);
    learner.zero_gradients();
  });
  const auto& backend = *compute.backend;
  log_info("the largest micro-batch was tried: {} tokens, {:.1f} s{}", compute.plan.shape.step.tokens, seconds,
           backend.asynchronous ? "; libraries take " + format_bytes(backend.memory.library_bytes()) : "");
}

void try_evaluation(train::Learner& learner, const Compute& compute) {
  const auto& shape = compute.plan.shape.evaluation;
  if (shape.tokens == 0) {
    return;
  }
  const auto batch = largest_batch(shape, learner.wide_dtype());
  timed([&](const at::Tensor& sums) { learner.evaluate(batch, sums); });
}

std::optional<cuda::Counters> device_counters(const Compute& compute) {
  return compute.backend->asynchronous ? std::optional(CudaPlugin::of_process().counters()) : std::nullopt;
}

void add_device_facts(const Compute& compute, const std::optional<cuda::Counters>& before,
                      std::vector<std::pair<std::string, std::string>>& facts) {
  facts.emplace_back("library_bytes used", std::to_string(compute.backend->memory.library_bytes()));
  if (!before) {
    return;
  }
  const auto now = CudaPlugin::of_process().counters();
  const auto add = [&](const char* name, uint64_t then, uint64_t after) {
    facts.emplace_back(std::string("in steps and evaluations: ") + name, std::to_string(after - then));
  };
  add("waits", before->synchronisations, now.synchronisations);
  add("waits for the upload ring", before->ring_waits, now.ring_waits);
  add("allocations", before->allocations, now.allocations);
  add("allocations by libraries", before->library_allocations, now.library_allocations);
  add("kernel launches", before->launches, now.launches);
  add("products", before->gemms, now.gemms);
}

}  // namespace phi3tune::commands
