// The embedding and the head trained whole beside an adapter, against PEFT's modules_to_save.
#include <gtest/gtest.h>

#include "phi3tune/model/decode.h"
#include "reference.h"

namespace phi3tune {
namespace {

using test::make_batch;
using test::read_tensors;
using test::relative_error;

struct Case {
  const char* kind;
  const char* batch;
  std::vector<std::string> modules;
};
const std::vector<Case> kCases{{"mha", "long", {"embed_tokens", "lm_head"}},
                               {"partial", "short", {"embed_tokens"}},  // tied in the base
                               {"partial", "short", {"lm_head"}},
                               {"partial", "short", {"embed_tokens", "lm_head"}}};

std::map<std::string, at::Tensor> reference_of(const Case& c) {
  std::string name = c.modules.front();
  for (size_t i = 1; i < c.modules.size(); ++i) {
    name += "_" + c.modules[i];
  }
  return read_tensors(test::kReferences + "/forward_backward/" + c.kind + "." + c.batch + ".whole." + name +
                      ".safetensors");
}

// The reference's: the base's weights plus a formula.
test::Setup make_whole_setup(const Case& c, const std::map<std::string, at::Tensor>& reference,
                             const model::Phi3Options& wanted) {
  test::Setup setup;
  auto options = wanted;
  setup.folder = std::make_unique<phi3::ModelFolder>(phi3::ModelFolder::open(test::kReferences + "/models/" + c.kind));
  const auto folder = test::kReferences + "/adapters/" + c.kind;
  auto adapter = phi3::read_adapter_config(folder);
  adapter.modules_to_save = c.modules;
  options.ranks = model::ranks_of(setup.folder->config(), adapter);
  setup.adapters =
      std::make_unique<model::LoraAdapters>(setup.folder->config(), adapter, options.compute_dtype, 1, false);
  setup.adapters->take_base_weights(*setup.folder);
  EXPECT_EQ(setup.adapters->whole_weights().size(), c.modules.size());
  for (const auto& weight : setup.adapters->whole_weights()) {
    const auto shift = reference.at("shift." + phi3::whole_tensor_name(weight.module)).item<double>();
    const auto index = at::arange(weight.value.numel(), at::kDouble);
    at::Tensor(weight.value).add_((0.01 * at::sin(index + shift)).view(weight.value.sizes()));
  }
  test::fill_adapters(*setup.adapters, folder);
  setup.model = std::make_unique<model::Phi3Model>(model::Phi3Model::load(*setup.folder, options));
  setup.model->attach(setup.adapters.get());
  return setup;
}

model::Phi3Options in(at::ScalarType dtype) {
  model::Phi3Options options;
  options.compute_dtype = dtype;
  options.head_chunk = 16;  // several chunks
  return options;
}

void expect_parity(const Case& c, at::ScalarType dtype, double bound) {
  const auto reference = reference_of(c);
  auto setup = make_whole_setup(c, reference, in(dtype));
  const auto batch = make_batch(test::documents_of(reference), setup.model->wide_dtype());
  EXPECT_LE(relative_error(setup.model->logits(batch), reference.at("logits")[0]), bound);
  const auto sums = setup.model->forward_backward(batch, 1.0 / static_cast<double>(batch.targets.numel()), 1);
  EXPECT_NEAR(sums.weighted_loss / sums.weight, reference.at("loss").item<double>(), bound * 10);
  EXPECT_LE(test::gradient_error(*setup.adapters, reference), bound);
  for (const auto& weight : setup.adapters->whole_weights()) {
    const auto name = phi3::whole_tensor_name(weight.module);
    EXPECT_LE(relative_error(weight.grad, reference.at("grad." + name)), bound) << name;
  }
}

// The references are fp64 results kept in fp32.
TEST(WholeModules, Float64GradientsArePefts) {
  for (const auto& c : kCases) {
    SCOPED_TRACE(std::string(c.kind) + " " + c.modules.front() + " " + std::to_string(c.modules.size()));
    expect_parity(c, at::kDouble, 1e-6);
  }
}

TEST(WholeModules, Float32GradientsArePeftsTo1e5) {
  for (const auto& c : kCases) {
    SCOPED_TRACE(std::string(c.kind) + " " + c.modules.front() + " " + std::to_string(c.modules.size()));
    expect_parity(c, at::kFloat, 1e-5);
  }
}

// bf16 masters' copies and products; transformers' own bf16 gradients are as far from the exact ones (0.014 to 0.027).
TEST(WholeModules, BFloat16GradientsAreCloseToPefts) { expect_parity(kCases[0], at::kBFloat16, 0.04); }

// torch.nn.Embedding's padding_idx.
TEST(WholeModules, ThePaddingTokensRowGetsNoGradient) {
  const auto reference = reference_of(kCases[0]);
  auto setup = make_whole_setup(kCases[0], reference, in(at::kFloat));
  const int64_t padding = setup.folder->config().pad_token_id.value();
  ASSERT_TRUE(reference.at("input_ids").eq(padding).any().item<bool>());
  const auto batch = make_batch(test::documents_of(reference), at::kFloat);
  setup.model->forward_backward(batch, 1.0, 1);
  const auto* embedding = setup.adapters->find(phi3::WholeModule::kEmbedding);
  EXPECT_EQ(embedding->grad[padding].abs().max().item<double>(), 0.0);
  EXPECT_GT(embedding->grad[batch.input_ids[0].item<int64_t>()].abs().max().item<double>(), 0.0);
}

TEST(WholeModules, GradientsAreTheSameBitsHoweverOftenAndWhateverIsRecomputed) {
  const auto reference = reference_of(kCases[0]);
  const auto batch = make_batch(test::documents_of(reference), at::kFloat);
  const auto gradients = [&](std::vector<config::SavedActivations> saved) {
    auto options = in(at::kBFloat16);
    options.saved = std::move(saved);
    auto setup = make_whole_setup(kCases[0], reference, options);
    setup.model->forward_backward(batch, 1.0, 1);
    return setup.adapters->gradients().clone();
  };
  const auto kept = gradients({});
  EXPECT_TRUE(test::same_bits(gradients({}), kept));
  EXPECT_TRUE(test::same_bits(gradients({config::SavedActivations::kBlock}), kept));
  EXPECT_TRUE(test::same_bits(gradients({config::SavedActivations::kOffload}), kept));
}

TEST(WholeModules, FreshOnesAreTheBasesOwn) {
  const auto reference = reference_of(kCases[0]);
  const auto batch = make_batch(test::documents_of(reference), at::kFloat);
  auto base = test::make_setup("mha", in(at::kFloat));
  auto config = base.adapters->config();
  config.modules_to_save = {"lm_head", "embed_tokens"};
  model::LoraAdapters fresh(base.folder->config(), config, at::kFloat, 1, false);
  fresh.take_base_weights(*base.folder);
  base.model->attach(nullptr);
  const auto logits = base.model->logits(batch).clone();
  base.model->attach(&fresh);
  EXPECT_TRUE(test::same_bits(base.model->logits(batch), logits));
}

TEST(WholeModules, TheDecoderUsesThem) {
  for (const auto& c : kCases) {
    const auto reference = reference_of(c);
    auto setup = make_whole_setup(c, reference, in(at::kFloat));
    const auto document = test::documents_of(reference).front();
    const std::vector<int32_t> ids(document.ids.begin(), document.ids.end());
    model::Decoder decoder(*setup.model, 1);
    const model::NewTokens step{0, ids};
    const auto logits = decoder.advance({&step, 1});
    const auto wanted = reference.at("logits")[0][static_cast<int64_t>(ids.size()) - 1];
    EXPECT_LE(relative_error(logits[0], wanted), 1e-5);
  }
}

}  // namespace
}  // namespace phi3tune
