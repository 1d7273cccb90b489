#include "phi3tune/train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "../model/reference.h"
#include "phi3tune/ops/ops.h"
#include "phi3tune/train/learner.h"
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

// peft.optimizers.create_loraplus_optimizer over adapters/mha, six steps; the gradients are the reference's formula.
void follow_loraplus(at::ScalarType dtype, const std::string& name, double bound) {
  model::Phi3Options options;
  options.compute_dtype = dtype;
  auto setup = test::make_setup("mha", options);
  train::AdapterLearner learner(*setup.model, *setup.adapters);
  const auto rates = learner.rates(16.0);
  EXPECT_EQ(rates.size(), 2 * setup.adapters->pairs().size());
  config::ScheduleOptions schedule;
  schedule.weight_decay = 0.1;
  train::AdamW optimizer(learner.parameters(), learner.gradients(), learner.compute_copy(), schedule, learner.arena(),
                         rates);
  const auto control = at::tensor({1.0, 0.0}, at::kDouble);
  for (int64_t step = 0; step < 6; ++step) {
    for (const auto& pair : setup.adapters->pairs()) {
      for (const auto& gradient : {pair.grad_a, pair.grad_b}) {
        const auto index = at::arange(gradient.numel(), at::kDouble);
        at::Tensor(gradient).copy_(at::sin(0.37 * index + static_cast<double>(step)).view(gradient.sizes()));
      }
    }
    optimizer.update(1e-3 * static_cast<double>(step + 1), control);
  }
  const auto wanted = test::read_tensors(PHI3TUNE_SOURCE_DIR "/tests/references/loraplus.safetensors");
  for (const auto& pair : setup.adapters->pairs()) {
    for (const char half : {'A', 'B'}) {
      const auto key = name + "." + phi3::lora_tensor_name(pair.module_path, half);
      EXPECT_LE(test::relative_error(half == 'A' ? pair.a : pair.b, wanted.at(key)), bound) << key;
    }
  }
}

TEST(AdamW, FollowsPeftsLoraPlus) {
  follow_loraplus(at::kDouble, "float64", 1e-13);
  follow_loraplus(at::kFloat, "float32", 1e-6);
}

// create_loraplus_optimizer counts what has one dimension with B: DoRA's magnitudes.
TEST(AdamW, LoraPlusGivesMagnitudesTheRateOfB) {
  auto setup = test::make_setup("gqa_dora", {});
  train::AdapterLearner learner(*setup.model, *setup.adapters);
  std::vector<train::RateRun> wanted;
  for (const auto& pair : setup.adapters->pairs()) {
    ASSERT_TRUE(pair.magnitude.defined());
    wanted.push_back({pair.a.numel(), 1.0});
    wanted.push_back({pair.b.numel() + pair.magnitude.numel(), 16.0});
  }
  EXPECT_EQ(learner.rates(16.0), wanted);
}

// No ratio, and a ratio of one, are a single run over all: the bits are those of an optimizer that knows no rates.
TEST(AdamW, ARatioOfOneIsOneRunOfParameters) {
  auto setup = test::make_setup("mha", {});
  train::AdapterLearner learner(*setup.model, *setup.adapters);
  const std::vector<train::RateRun> whole{{setup.adapters->count(), 1.0}};
  EXPECT_EQ(learner.rates(1.0), whole);
}

}  // namespace
}  // namespace phi3tune
