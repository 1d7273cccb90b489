// Whole passes of tiny networks through the CUDA back end, its kernels run by the host's execution layer: against
// transformers and PEFT, and against the CPU's back end.
#include <cmath>

#include "fixture.h"
#include "phi3tune/plan/run_shape.h"
#include "unit/model/reference.h"

namespace phi3tune::cuda::test {
namespace {

using config::SavedActivations;
using phi3tune::test::documents_of;
using phi3tune::test::make_batch;
using phi3tune::test::make_setup;

constexpr const char* kKinds[] = {"mha", "gqa", "longrope", "partial"};

std::map<std::string, Tensor> reference(const std::string& kind, const std::string& precision) {
  return read_tensors(kReferences + "/forward_backward/" + kind + ".long.packed." + precision + ".safetensors");
}

model::Phi3Options in(at::ScalarType dtype) {
  model::Phi3Options options;
  options.compute_dtype = dtype;
  options.head_chunk = 16;  // several chunks
  return options;
}

struct Found {
  double loss = 0.0;
  int64_t correct = 0;
  Tensor logits, gradients;
  std::map<std::string, Tensor> by_name;
};

// One pass over the reference's batch, by the back end that is chosen.
Found pass(const std::string& kind, const model::Phi3Options& options) {
  auto setup = make_setup(kind, options);
  const auto batch = make_batch(documents_of(reference(kind.substr(0, kind.find(' ')), "float64")), at::kFloat);
  Found found;
  found.logits = setup.model->logits(batch).clone();
  const auto sums = setup.model->forward_backward(batch, 1.0 / static_cast<double>(batch.targets.numel()), 1);
  found.loss = sums.weighted_loss / sums.weight;
  found.correct = sums.correct;
  found.gradients = setup.adapters->gradients().clone();
  for (const auto& pair : setup.adapters->pairs()) {
    found.by_name["grad." + phi3::lora_tensor_name(pair.module_path, 'A')] = pair.grad_a.clone();
    found.by_name["grad." + phi3::lora_tensor_name(pair.module_path, 'B')] = pair.grad_b.clone();
  }
  return found;
}

Found on_cpu(const std::string& kind, const model::Phi3Options& options) {
  ops::choose_backend(ops::cpu_backend());
  auto found = pass(kind, options);
  ops::choose_backend(open_backend(0));
  return found;
}

double worst_gradient(const std::map<std::string, Tensor>& found, const std::map<std::string, Tensor>& wanted) {
  double worst = 0.0;
  for (const auto& [name, value] : found) {
    const double error = relative_error(value, wanted.at(name));
    worst = error > worst || std::isnan(error) ? error : worst;
  }
  return worst;
}

class NetworkOnDevice : public OnDevice {};

TEST_F(NetworkOnDevice, Float32IsWithinTenMillionthsOfTransformersAndOfTheCpu) {
  for (const std::string kind : kKinds) {
    SCOPED_TRACE(kind);
    const auto found = pass(kind, in(at::kFloat));
    const auto theirs = reference(kind, "float32");
    const double loss = theirs.at("loss").item<double>();
    EXPECT_LE(relative_error(found.logits, theirs.at("logits")[0]), 1e-5);
    EXPECT_LE(std::abs(found.loss - loss), 1e-5 * loss);
    EXPECT_LE(worst_gradient(found.by_name, theirs), 1e-5);
    const auto cpu = on_cpu(kind, in(at::kFloat));
    EXPECT_LE(std::abs(found.loss - cpu.loss), 1e-5 * cpu.loss);
    EXPECT_LE(worst_gradient(found.by_name, cpu.by_name), 1e-5);
    EXPECT_EQ(found.correct, cpu.correct);
  }
}

TEST_F(NetworkOnDevice, BFloat16IsNoWorseThanTwiceTransformersOwnError) {
  for (const std::string kind : kKinds) {
    SCOPED_TRACE(kind);
    const auto exact = reference(kind, "float64");
    const auto theirs = reference(kind, "bfloat16");
    const auto found = pass(kind, in(at::kBFloat16));
    double their_worst = 0.0;
    for (const auto& [name, value] : found.by_name) {
      their_worst = std::max(their_worst, relative_error(theirs.at(name), exact.at(name)));
    }
    EXPECT_LE(relative_error(found.logits, exact.at("logits")[0]),
              2 * relative_error(theirs.at("logits")[0], exact.at("logits")[0]));
    EXPECT_LE(worst_gradient(found.by_name, exact), 2 * their_worst);
  }
}

TEST_F(NetworkOnDevice, DropoutDropsWhatTheCpuDrops) {
  auto options = in(at::kFloat);
  options.dropout = 0.2;
  options.dropout_seed = 9;
  for (const std::string kind : {"mha", "partial"}) {
    const auto found = pass(kind, options);
    EXPECT_LE(worst_gradient(found.by_name, on_cpu(kind, options).by_name), 1e-5) << kind;
  }
}

TEST_F(NetworkOnDevice, WeightsQuantisedOnTheDeviceAreThoseQuantisedOnTheHost) {
  for (const bool double_quant : {true, false}) {
    auto options = in(at::kFloat);
    options.quantize = true;
    options.nf4.double_quant = double_quant;
    const auto found = pass("gqa", options);
    EXPECT_LE(worst_gradient(found.by_name, on_cpu("gqa", options).by_name), 1e-5);
    EXPECT_GT(relative_error(found.gradients, pass("gqa", in(at::kFloat)).gradients), 1e-3) << "NF4 is not the base";
  }
}

TEST_F(NetworkOnDevice, AQuantisedCheckpointIsTakenAsItIs) {
  const auto found = pass("mha_nf4_float32", in(at::kFloat));
  EXPECT_LE(worst_gradient(found.by_name, reference("mha_nf4_float32", "float64")), 1e-5);
}

TEST_F(NetworkOnDevice, AllPoliciesAgreeToTheBit) {
  using S = SavedActivations;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const bool quantize : {false, true}) {
      auto options = in(dtype);
      options.quantize = quantize;
      options.dropout = 0.1;
      const auto wanted = pass("gqa", options).gradients;
      for (const auto& policy : {std::vector<S>{S::kGateUp},
                                 {S::kAttention},
                                 {S::kBlock},
                                 {S::kOffload},
                                 {S::kBlock, S::kNone},
                                 {S::kGateUp, S::kAttention}}) {
        options.saved = policy;
        EXPECT_TRUE(same_bits(pass("gqa", options).gradients, wanted))
            << policy.size() << " policies, the first is " << plan::policy_name(policy.front());
      }
    }
  }
}

// Deeper than the three places that inputs of layers take turns in.
TEST_F(NetworkOnDevice, OffloadedInputsOfManyLayersComeBackInTime) {
  const TempFolder folder;
  auto options = in(at::kBFloat16);
  const auto gradients = [&](SavedActivations saved) {
    options.saved = {saved};
    auto setup = make_deep_setup(folder / "model", 7, options);
    setup.model->forward_backward(deep_batch(), 1.0, 1);
    return setup.adapters->gradients().clone();
  };
  const auto wanted = gradients(SavedActivations::kNone);
  EXPECT_TRUE(same_bits(gradients(SavedActivations::kOffload), wanted));
  EXPECT_TRUE(same_bits(gradients(SavedActivations::kBlock), wanted));
}

// Products of a pass over L layers with all four linears adapted: two forward and four backward for each, less the
// gradient with respect to layer 0's input; two for each chunk of the head.
TEST_F(NetworkOnDevice, NoProductIsMadeThatIsNotNeeded) {
  auto setup = make_setup("mha", in(at::kFloat));
  const auto batch = make_batch(documents_of(reference("mha", "float64")), at::kFloat);
  const auto sums = at::zeros({2}, at::kDouble);
  const auto before = counters().gemms;
  setup.model->forward_backward(batch, 1.0, 1, sums);
  const auto layers = static_cast<uint64_t>(setup.folder->config().num_layers);
  const auto chunks = static_cast<uint64_t>((batch.targets.numel() + 15) / 16);
  EXPECT_EQ(counters().gemms - before, layers * 4 * 6 - 1 + 2 * chunks);
}

TEST_F(NetworkOnDevice, EachWeightIsDequantisedTwiceAMicroBatch) {
  for (const auto saved : {SavedActivations::kNone, SavedActivations::kBlock}) {
    auto options = in(at::kFloat);
    options.quantize = true;
    options.saved = {saved};
    auto setup = make_setup("mha", options);
    const auto batch = make_batch(documents_of(reference("mha", "float64")), at::kFloat);
    const auto sums = at::zeros({2}, at::kDouble);
    const auto before = setup.model->dequantisations();
    setup.model->forward_backward(batch, 1.0, 1, sums);
    // Forward and backward; the last layer's still lie in the scratch when the backward begins.
    EXPECT_EQ(setup.model->dequantisations() - before, 4 * (2 * setup.folder->config().num_layers - 1));
  }
}

TEST_F(NetworkOnDevice, ASecondStepNeitherWaitsNorAllocates) {
  for (const bool quantize : {false, true}) {
    auto options = in(at::kBFloat16);
    options.quantize = quantize;
    options.saved = {SavedActivations::kBlock};
    auto setup = make_setup("gqa", options);
    const auto batch = make_batch(documents_of(reference("gqa", "float64")), at::kFloat);
    const auto sums = at::zeros({2}, at::kDouble);
    setup.model->forward_backward(batch, 1.0, 1, sums);
    const Counters before = counters();
    setup.model->forward_backward(batch, 1.0, 2, sums);
    EXPECT_EQ(counters().synchronisations, before.synchronisations);
    EXPECT_EQ(counters().allocations, before.allocations);
    EXPECT_GT(counters().launches, before.launches);
  }
}

}  // namespace
}  // namespace phi3tune::cuda::test
