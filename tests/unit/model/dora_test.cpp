// DoRA against PEFT: logits, loss and the gradients of A, B and the magnitudes.
#include <gtest/gtest.h>

#include <cmath>

#include "reference.h"

namespace phi3tune {
namespace {

using test::make_batch;
using test::make_setup;
using test::read_tensors;
using test::relative_error;

struct Errors {
  double logits = 0.0, loss = 0.0, gradients = 0.0;
};

std::string file(const std::string& kind, const std::string& precision) {
  return test::kReferences + "/forward_backward/" + kind + ".long.packed." + precision + ".safetensors";
}

Errors errors(test::Setup& setup, const std::map<std::string, at::Tensor>& inputs,
              const std::map<std::string, at::Tensor>& reference) {
  const auto batch = make_batch(test::documents_of(inputs), setup.model->wide_dtype());
  Errors out;
  if (reference.contains("logits")) {
    out.logits = relative_error(setup.model->logits(batch), reference.at("logits")[0]);
  }
  setup.adapters->zero_gradients();
  const auto targets = static_cast<double>(batch.targets.numel());
  const auto sums = setup.model->forward_backward(batch, 1.0 / targets, 1);
  const double loss = reference.at("loss").item<double>();
  out.loss = std::abs(sums.weighted_loss / sums.weight - loss) / loss;
  out.gradients = test::gradient_error(*setup.adapters, reference);
  return out;
}

model::Phi3Options in(at::ScalarType dtype) {
  model::Phi3Options options;
  options.compute_dtype = dtype;
  options.head_chunk = 16;
  return options;
}

TEST(Dora, Float64EqualsExactPeft) {
  const auto reference = read_tensors(file("gqa_dora", "float64"));
  for (const auto saved : {config::SavedActivations::kNone, config::SavedActivations::kBlock}) {
    auto options = in(at::kDouble);
    options.saved = {saved};
    auto setup = make_setup("gqa_dora", options);
    const auto e = errors(setup, reference, reference);
    EXPECT_LE(e.logits, 1e-12);
    EXPECT_LE(e.loss, 1e-12);
    EXPECT_LE(e.gradients, 1e-11);
  }
}

// PEFT under the masks of our dropout (tests/parity/philox_dropout.py): what is dropped is what is added to W x.
TEST(Dora, WithDropoutFloat64EqualsExactPeft) {
  const auto reference = read_tensors(file("gqa_dora_dropout", "float64"));
  auto options = in(at::kDouble);
  options.dropout = 0.25;
  options.dropout_seed = 0;
  auto setup = make_setup("gqa_dora", options);
  const auto e = errors(setup, read_tensors(file("gqa_dora", "float64")), reference);
  EXPECT_LE(e.loss, 1e-12);
  EXPECT_LE(e.gradients, 1e-11);
}

TEST(Dora, Float32WithinTenMillionthsOfPeft) {
  auto setup = make_setup("gqa_dora", in(at::kFloat));
  const auto e = errors(setup, read_tensors(file("gqa_dora", "float64")), read_tensors(file("gqa_dora", "float32")));
  EXPECT_LE(e.logits, 1e-5);
  EXPECT_LE(e.loss, 1e-5);
  EXPECT_LE(e.gradients, 1e-5);
}

TEST(Dora, QuantisedBaseWithinTenMillionthsOfPeft) {
  const auto reference = read_tensors(file("mha_nf4_float32_dora", "float32"));
  auto setup = make_setup("mha_nf4_float32_dora", in(at::kFloat));
  const auto e = errors(setup, reference, reference);
  EXPECT_LE(e.logits, 1e-5);
  EXPECT_LE(e.loss, 1e-5);
  EXPECT_LE(e.gradients, 1e-5);
}

TEST(Dora, BFloat16NoWorseThanTwicePeftsOwnError) {
  const auto exact = read_tensors(file("gqa_dora", "float64"));
  const auto theirs = read_tensors(file("gqa_dora", "bfloat16"));
  auto setup = make_setup("gqa_dora", in(at::kBFloat16));
  const auto e = errors(setup, exact, exact);
  double their_gradients = 0.0;
  for (const auto& [name, value] : theirs) {
    if (name.starts_with("grad.")) {
      their_gradients = std::max(their_gradients, relative_error(value, exact.at(name)));
    }
  }
  EXPECT_LE(e.logits, 2 * relative_error(theirs.at("logits"), exact.at("logits")));
  EXPECT_LE(e.gradients, 2 * their_gradients);
}

// A fresh adapter: B is zero and the magnitudes are the norms of W, so nothing changes.
TEST(Dora, FreshMagnitudesAreTheRowsOfTheBase) {
  auto setup = make_setup("gqa", in(at::kFloat));
  const auto batch = test::deep_batch();
  setup.model->attach(nullptr);
  const auto base = setup.model->logits(batch).clone();
  auto config = setup.adapters->config();
  config.use_dora = true;
  model::LoraAdapters fresh(setup.folder->config(), config, at::kFloat, 3, false);
  EXPECT_TRUE(fresh.wants_magnitudes());
  setup.model->attach(&fresh);
  EXPECT_FALSE(fresh.wants_magnitudes());
  const auto& pair = fresh.pairs().front();
  const auto weight =
      read_tensors(test::kReferences + "/models/gqa/model.safetensors").at(pair.module_path + ".weight");
  EXPECT_LE(relative_error(pair.magnitude, weight.to(at::kDouble).norm(2, 1)), 1e-6);
  EXPECT_TRUE(at::equal(setup.model->logits(batch), base));
}

// Norms follow the parameters once the model is told, whatever was computed before.
TEST(Dora, NormsFollowTheParameters) {
  auto setup = make_setup("gqa_dora", in(at::kFloat));
  const auto batch = test::deep_batch();
  const auto before = setup.model->logits(batch).clone();
  const auto parameters = setup.adapters->parameters().clone();
  for (const auto& pair : setup.adapters->pairs()) {
    at::Tensor(pair.b).mul_(2.0);
  }
  setup.adapters->refresh_compute_copies();
  setup.model->adapter_changed();
  const auto changed = setup.model->logits(batch).clone();
  EXPECT_FALSE(at::equal(changed, before));

  auto again = make_setup("gqa_dora", in(at::kFloat));
  again.adapters->parameters().copy_(setup.adapters->parameters());
  again.adapters->refresh_compute_copies();
  again.model->adapter_changed();
  EXPECT_TRUE(at::equal(again.model->logits(batch), changed));
}

}  // namespace
}  // namespace phi3tune
