#include "phi3tune/train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "phi3tune/ops/ops.h"
#include "phi3tune/train/step_ring.h"
#include "support/references.h"
#include "support/tensors.h"

namespace phi3tune {
namespace {

// Two parameters of the reference, one after the other, as the adapters' flat buffers are.
at::Tensor flat(const std::map<std::string, at::Tensor>& tensors, const std::string& name, int64_t step = -1) {
  std::vector<at::Tensor> parts;
  for (const char* index : {".0", ".1"}) {
    const at::Tensor& tensor = tensors.at(name + index);
    parts.push_back((step < 0 ? tensor : tensor[step]).reshape({-1}));
  }
  return at::cat(parts);
}

// torch.optim.AdamW(foreach=False) behind torch.nn.utils.clip_grad_norm_, twelve steps.
void follow(const std::string& run, double weight_decay, double clip, double bound) {
  SCOPED_TRACE(run);
  const auto tensors = test::read_tensors(PHI3TUNE_SOURCE_DIR "/tests/references/adamw.safetensors");
  const at::Tensor parameters = flat(tensors, run + ".initial").clone();
  const at::Tensor gradients = at::zeros_like(parameters);
  config::ScheduleOptions options;
  options.weight_decay = weight_decay;
  options.max_grad_norm = clip;
  model::Arena arena;
  train::AdamW optimizer(parameters, gradients, {}, options, arena);
  train::StepRing ring(arena, 1, 1, 0, parameters.numel());
  for (int64_t step = 0; step < 12; ++step) {
    gradients.copy_(flat(tensors, run + ".gradient", step));
    ops::step_norm(ring.control(), ring.norm(0), ring.losses(0), ring.partials(), gradients, clip);
    const double norm = ring.read(1)[0].norm;
    const double wanted = tensors.at(run + ".norm")[step].item<double>();
    EXPECT_NEAR(norm, wanted, bound * wanted);
    optimizer.update(tensors.at(run + ".rate")[step].item<double>(), ring.control());
    EXPECT_LE(test::relative_error(parameters, flat(tensors, run + ".value", step)), bound) << "step " << step;
    EXPECT_LE(test::relative_error(optimizer.state().moment1, flat(tensors, run + ".exp_avg", step)), bound);
    EXPECT_LE(test::relative_error(optimizer.state().moment2, flat(tensors, run + ".exp_avg_sq", step)), bound);
    EXPECT_EQ(optimizer.state().step, step + 1);
  }
}

// fp64: the same formula, products in another order. fp32: torch rounds each intermediate, 12 steps of 1.2e-7.
TEST(AdamW, FollowsTorchWithoutDecay) {
  follow("plain.float64", 0.0, 0.0, 1e-14);
  follow("plain.float32", 0.0, 0.0, 1e-6);
}

TEST(AdamW, FollowsTorchWithDecay) {
  follow("decay.float64", 0.1, 0.0, 1e-14);
  follow("decay.float32", 0.1, 0.0, 1e-6);
}

TEST(AdamW, FollowsTorchBehindClipping) {
  follow("clipped.float64", 0.1, 1.0, 1e-14);
  follow("clipped.float32", 0.1, 1.0, 1e-6);
}

}  // namespace
}  // namespace phi3tune
