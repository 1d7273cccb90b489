// What must not change the result: how documents are packed or split, what is recomputed, where a run starts.
#include <gtest/gtest.h>

#include "phi3tune/io/safetensors.h"
#include "phi3tune/ops/definitions.h"
#include "phi3tune/phi3/adapter_options.h"
#include "reference.h"

namespace phi3tune {
namespace {

using test::Document;
using test::make_batch;
using test::make_setup;

std::vector<Document> documents(const std::string& kind) {
  const bool has_short = kind == "longrope" || kind == "partial";
  return test::documents_of(test::read_tensors(test::kReferences + "/forward_backward/" + kind +
                                               (has_short ? ".short" : ".long") + ".packed.float64.safetensors"));
}

// Gradients of the sum over `groups`, each a micro-batch, normalised by all their targets.
at::Tensor gradients(test::Setup& setup, const std::vector<std::vector<Document>>& groups) {
  double targets = 0;
  std::vector<model::TokenBatch> batches;
  for (const auto& group : groups) {
    batches.push_back(make_batch(group, setup.model->wide_dtype()));
    targets += static_cast<double>(batches.back().targets.numel());
  }
  setup.adapters->zero_gradients();
  for (const auto& batch : batches) {
    setup.model->forward_backward(batch, 1.0 / targets, 7);
  }
  return setup.adapters->gradients().clone();
}

model::Phi3Options options(at::ScalarType dtype, double dropout = 0.0) {
  model::Phi3Options made;
  made.compute_dtype = dtype;
  made.dropout = dropout;
  made.dropout_seed = 5;
  return made;
}

TEST(Invariance, AStepsGradientDoesNotDependOnHowItsDocumentsAreCut) {
  for (const char* kind : {"mha", "gqa", "longrope", "partial"}) {
    for (const double dropout : {0.0, 0.1}) {
      SCOPED_TRACE(std::string(kind) + " dropout " + std::to_string(dropout));
      const auto all = documents(kind);
      std::vector<std::vector<Document>> alone;
      for (const auto& document : all) {
        alone.push_back({document});
      }
      const std::vector<std::vector<Document>> ragged{{all[0]}, {all.begin() + 1, all.end()}};
      const std::vector<std::vector<Document>> reversed{{all.rbegin(), all.rend()}};
      for (const auto& [dtype, bound] : {std::pair{at::kDouble, 1e-10}, std::pair{at::kFloat, 1e-5}}) {
        auto setup = make_setup(kind, options(dtype, dropout));
        const auto packed = gradients(setup, {all});
        EXPECT_LE(test::relative_error(gradients(setup, alone), packed), bound);
        EXPECT_LE(test::relative_error(gradients(setup, ragged), packed), bound);
        EXPECT_LE(test::relative_error(gradients(setup, reversed), packed), bound);
      }
    }
  }
}

TEST(Invariance, DropoutChangesGradientsAndItsStepDoes) {
  const auto all = documents("mha");
  auto plain = make_setup("mha", options(at::kFloat));
  auto dropped = make_setup("mha", options(at::kFloat, 0.1));
  EXPECT_GT(test::relative_error(gradients(dropped, {all}), gradients(plain, {all})), 1e-2);
  const auto batch = make_batch(all, at::kFloat);
  dropped.adapters->zero_gradients();
  dropped.model->forward_backward(batch, 1.0, 1);
  const auto first = dropped.adapters->gradients().clone();
  dropped.adapters->zero_gradients();
  dropped.model->forward_backward(batch, 1.0, 2);
  EXPECT_GT(test::relative_error(dropped.adapters->gradients(), first), 1e-2);
}

TEST(Invariance, WhatIsRecomputedOrOffloadedGivesTheSameBits) {
  using S = config::SavedActivations;
  const std::vector<std::vector<S>> policies{{S::kGateUp},
                                             {S::kAttention},
                                             {S::kBlock},
                                             {S::kOffload},
                                             {S::kNone, S::kBlock},
                                             {S::kBlock, S::kNone},
                                             {S::kAttention, S::kGateUp}};
  for (const char* kind : {"mha", "gqa", "longrope", "partial"}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const bool quantize : {false, true}) {
        SCOPED_TRACE(std::string(kind) + (quantize ? " nf4" : ""));
        auto saving = options(dtype, 0.1);
        saving.quantize = quantize;
        auto a = make_setup(kind, saving);
        const auto wanted = gradients(a, {documents(kind)});
        for (const auto& policy : policies) {
          auto recomputing = saving;
          recomputing.saved = policy;
          auto b = make_setup(kind, recomputing);
          EXPECT_TRUE(test::same_bits(gradients(b, {documents(kind)}), wanted)) << policy.size();
        }
      }
    }
  }
}

// Deeper than the three places that inputs of layers take turns in.
TEST(Invariance, OffloadedInputsOfManyLayersComeBackInTime) {
  const test::TempFolder folder;
  const auto gradients_of = [&](std::vector<config::SavedActivations> saved) {
    auto wanted = options(at::kFloat);
    wanted.saved = std::move(saved);
    auto setup = test::make_deep_setup(folder / "model", 7, wanted);
    setup.model->forward_backward(test::deep_batch(), 1.0, 1);
    return setup.adapters->gradients().clone();
  };
  using S = config::SavedActivations;
  const auto wanted = gradients_of({});
  EXPECT_GT(wanted.abs().max().item<double>(), 0.0);
  EXPECT_TRUE(test::same_bits(gradients_of({S::kOffload}), wanted));
  EXPECT_TRUE(test::same_bits(
      gradients_of({S::kNone, S::kBlock, S::kGateUp, S::kNone, S::kAttention, S::kBlock, S::kNone}), wanted));
}

TEST(Invariance, TheSameStepTwiceGivesTheSameBits) {
  auto setup = make_setup("gqa", options(at::kBFloat16, 0.1));
  const auto first = gradients(setup, {documents("gqa")});
  EXPECT_TRUE(test::same_bits(gradients(setup, {documents("gqa")}), first));
}

TEST(Invariance, EvaluationAgreesWithTheTrainingLoss) {
  for (const char* kind : {"mha", "longrope"}) {
    auto setup = make_setup(kind, options(at::kDouble));
    const auto batch = make_batch(documents(kind), at::kDouble);
    const auto trained = setup.model->forward_backward(batch, 1.0, 1);
    const auto evaluated = setup.model->evaluate(batch);
    EXPECT_DOUBLE_EQ(trained.weighted_loss, evaluated.weighted_loss);
    EXPECT_EQ(trained.targets, evaluated.targets);
    EXPECT_EQ(trained.correct, evaluated.correct);
  }
}

// An adapter in the upper layer alone has the gradients of one in both whose lower half does nothing; the backward does
// not go below it, so that its NF4 weights are not dequantised again.
TEST(Invariance, TheBackwardEndsAtTheLowestAdaptedLayer) {
  auto wanted = options(at::kDouble);
  auto both = make_setup("mha", wanted);
  auto config = both.adapters->config();
  config.layers = {1};
  wanted.ranks = model::ranks_of(both.folder->config(), config);
  model::LoraAdapters upper(both.folder->config(), config, at::kDouble, 1, false);
  ASSERT_EQ(upper.pairs().size(), 4U);
  for (const auto& pair : both.adapters->pairs()) {
    if (pair.layer == 0) {
      at::Tensor(pair.b).zero_();
    } else {
      at::Tensor(upper.find(1, pair.kind)->a).copy_(pair.a);
      at::Tensor(upper.find(1, pair.kind)->b).copy_(pair.b);
    }
  }
  gradients(both, {documents("mha")});
  for (const bool quantize : {false, true}) {
    wanted.quantize = quantize;
    auto model = model::Phi3Model::load(*both.folder, wanted);
    model.attach(&upper);
    upper.zero_gradients();
    const auto batch = make_batch(documents("mha"), at::kDouble);
    const auto before = model.dequantisations();
    model.forward_backward(batch, 1.0 / static_cast<double>(batch.targets.numel()), 7);
    if (quantize) {
      EXPECT_EQ(model.dequantisations() - before, 8);  // both layers forward; the last one's lie there still
      continue;
    }
    for (const auto& pair : upper.pairs()) {
      EXPECT_LE(test::relative_error(pair.grad_a, both.adapters->find(1, pair.kind)->grad_a), 1e-12);
      EXPECT_LE(test::relative_error(pair.grad_b, both.adapters->find(1, pair.kind)->grad_b), 1e-12);
    }
  }
}

model::Phi3Options noisy(at::ScalarType dtype) {
  auto made = options(dtype, 0.1);
  made.noise_alpha = 5.0;
  return made;
}

TEST(Invariance, NoiseOnTheEmbeddingsDoesNotDependOnHowDocumentsAreCut) {
  const auto all = documents("gqa");
  auto setup = make_setup("gqa", noisy(at::kDouble));
  const auto packed = gradients(setup, {all});
  std::vector<std::vector<Document>> alone;
  for (const auto& document : all) {
    alone.push_back({document});
  }
  EXPECT_LE(test::relative_error(gradients(setup, alone), packed), 1e-10);
  auto quiet = make_setup("gqa", options(at::kDouble, 0.1));
  EXPECT_GT(test::relative_error(gradients(quiet, {all}), packed), 1e-2);
}

TEST(Invariance, NoiseIsTheSameWhateverIsRecomputed) {
  using S = config::SavedActivations;
  const auto of = [](std::vector<S> saved) {
    auto wanted = noisy(at::kBFloat16);
    wanted.saved = std::move(saved);
    auto setup = make_setup("gqa", wanted);
    return gradients(setup, {documents("gqa")});
  };
  const auto kept = of({});
  EXPECT_TRUE(test::same_bits(of({S::kBlock}), kept));
  EXPECT_TRUE(test::same_bits(of({S::kOffload}), kept));
}

TEST(Invariance, EvaluationHasNoNoise) {
  const auto batch = make_batch(documents("mha"), at::kFloat);
  auto noise = make_setup("mha", noisy(at::kFloat));
  auto quiet = make_setup("mha", options(at::kFloat));
  EXPECT_EQ(noise.model->evaluate(batch).weighted_loss, quiet.model->evaluate(batch).weighted_loss);
  EXPECT_TRUE(test::same_bits(noise.model->logits(batch), quiet.model->logits(batch)));
}

// A base whose embeddings have the noise in them gives the loss and the gradients that the noise gives: it is added to
// the embeddings, once, and nothing else changes. Every token stands once, so that each row has its own noise.
TEST(Noise, GradientsAreThoseOfABaseWithTheNoiseInItsEmbeddings) {
  constexpr uint64_t kStep = 7;
  std::vector<Document> all(2);
  for (int64_t i = 0; i < 60; ++i) {
    auto& document = all[i < 22 ? 0 : 1];
    document.ids.push_back(i + 3);
    document.labels.push_back(i + 3);
    document.sample_id = i < 22 ? 41 : 42;
  }
  auto wanted_options = options(at::kDouble);
  wanted_options.noise_alpha = 5.0;
  auto noise = make_setup("mha", wanted_options);
  const auto ours = gradients(noise, {all});

  const auto batch = make_batch(all, at::kDouble);
  const std::string source = test::kReferences + "/models/mha";
  auto tensors = test::read_tensors(source + "/model.safetensors");
  for (auto& [name, tensor] : tensors) {
    tensor = tensor.to(at::kFloat);
  }
  tensors.at("model.embed_tokens.weight")
      .narrow(0, 3, 60)
      .add_(ops::definition::noise(64, {batch.cu_seqlens}, {5.0, 5, kStep, batch.sample_ids, {}}, at::kDouble));
  const test::TempFolder folder;
  std::filesystem::create_directories(folder / "models");
  std::filesystem::copy(source, folder / "models/base");
  std::vector<io::TensorToWrite> to_write;
  for (const auto& [name, tensor] : tensors) {
    to_write.push_back({name,
                        io::DType::kF32,
                        tensor.sizes().vec(),
                        {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}});
  }
  io::write_safetensors(folder / "models/base/model.safetensors", std::move(to_write), {{"format", "pt"}});
  auto base = phi3::ModelFolder::open(folder / "models/base");
  auto model = model::Phi3Model::load(base, options(at::kDouble));
  model.attach(noise.adapters.get());
  noise.adapters->zero_gradients();
  model.forward_backward(batch, 1.0 / static_cast<double>(batch.targets.numel()), kStep);
  // The folder holds the sums in fp32.
  EXPECT_LE(test::relative_error(ours, noise.adapters->gradients()), 1e-6);
}

TEST(LoraAdapters, FreshAdapterLeavesLogitsUnchanged) {
  auto setup = make_setup("gqa", options(at::kFloat));
  model::LoraAdapters fresh(setup.folder->config(), setup.adapters->config(), at::kFloat, 3, false);
  const auto batch = make_batch(documents("gqa"), at::kFloat);
  setup.model->attach(nullptr);
  const auto base = setup.model->logits(batch).clone();
  setup.model->attach(&fresh);
  EXPECT_TRUE(test::same_bits(setup.model->logits(batch), base));
  setup.model->attach(setup.adapters.get());
  EXPECT_FALSE(test::same_bits(setup.model->logits(batch), base));
}

TEST(LoraAdapters, StartIsUniformInPeftsBoundsAndIndependentOfOtherModules) {
  const auto setup = make_setup("mha", options(at::kFloat));
  const auto& model = setup.folder->config();
  config::LoraOptions lora;
  lora.rank = 8;
  const model::LoraAdapters all(model, phi3::adapter_config_for(lora, model, "base"), at::kFloat, 11, false);
  ASSERT_EQ(all.pairs().size(), 8U);
  for (const auto& pair : all.pairs()) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(pair.a.size(1)));
    EXPECT_LE(pair.a.abs().max().item<double>(), bound);
    EXPECT_GT(pair.a.abs().max().item<double>(), 0.9 * bound);
    EXPECT_LT(std::abs(pair.a.mean().item<double>()), 0.1 * bound);
    EXPECT_EQ(pair.b.abs().max().item<double>(), 0.0);
  }
  lora.target_modules = {"down_proj"};
  const model::LoraAdapters one(model, phi3::adapter_config_for(lora, model, "base"), at::kFloat, 11, false);
  ASSERT_EQ(one.pairs().size(), 2U);
  EXPECT_TRUE(test::same_bits(one.pairs()[1].a, all.find(1, phi3::LinearKind::kDown)->a));
}

}  // namespace
}  // namespace phi3tune
