// PiSSA against PEFT: the starts, the base that is left, and a forward and backward away from the start.
#include "phi3tune/model/pissa.h"

#include <gtest/gtest.h>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "reference.h"

namespace phi3tune {
namespace {

using test::read_tensors;
using test::relative_error;
using Tensors = std::map<std::string, at::Tensor>;

const std::string kBase = test::kReferences + "/models/gqa";

Tensors reference(const std::string& kind) {
  return read_tensors(test::kReferences + "/forward_backward/" + kind + ".long.packed.float32.safetensors");
}

phi3::AdapterConfig config() {
  auto config = phi3::read_adapter_config(test::kReferences + "/adapters/gqa");
  config.rank = 4;
  config.alpha = 8;
  return config;
}

// A file's tensors as one flat buffer.
at::Tensor flat_of(const model::LoraAdapters& adapters, const Tensors& tensors, const std::string& prefix) {
  auto flat = at::zeros_like(adapters.parameters());
  const auto put = [&](const at::Tensor& part, const std::string& name) {
    flat.narrow(0, part.storage_offset() - adapters.parameters().storage_offset(), part.numel())
        .view(part.sizes())
        .copy_(tensors.at(prefix + name));
  };
  for (const auto& pair : adapters.pairs()) {
    put(pair.a, phi3::lora_tensor_name(pair.module_path, 'A'));
    put(pair.b, phi3::lora_tensor_name(pair.module_path, 'B'));
  }
  return flat;
}

// Signs of singular vectors aside: the products, and the sizes of every element.
TEST(Pissa, StartsAsPeftDoes) {
  const auto folder = phi3::ModelFolder::open(kBase);
  const auto wanted = reference("gqa_pissa");
  constexpr double bound = 1e-4;
  model::LoraAdapters adapters(folder.config(), config(), at::kFloat, 1, false);
  adapters.start_from_base(model::principal_parts(folder, adapters, {}));
  for (const auto& pair : adapters.pairs()) {
    const auto& a = wanted.at("start." + phi3::lora_tensor_name(pair.module_path, 'A'));
    const auto& b = wanted.at("start." + phi3::lora_tensor_name(pair.module_path, 'B'));
    EXPECT_LE(relative_error(at::mm(pair.b, pair.a), at::mm(b, a)), bound) << pair.module_path;
    EXPECT_LE(relative_error(pair.a.abs(), a.abs()), bound) << pair.module_path;
    EXPECT_LE(relative_error(pair.b.abs(), b.abs()), bound) << pair.module_path;
    EXPECT_TRUE(at::equal(pair.a, pair.initial_a));
  }
}

// What scale * B A leaves of W, as a share of the least that its rank can leave.
double excess(const at::Tensor& weight, const at::Tensor& part, int64_t rank) {
  const auto values = std::get<1>(at::linalg_svd(weight, false));
  const double least = values.slice(0, rank).norm().item<double>();
  return (weight - part).norm().item<double>() / least;
}

// These spectra are flat, and sixteen iterations from two random starts end in two places: both leave about the least.
TEST(Pissa, TheRandomisedStartLeavesAsLittleAsPefts) {
  const auto folder = phi3::ModelFolder::open(kBase);
  const auto theirs = reference("gqa_pissa_niter");
  const auto weights = read_tensors(kBase + "/model.safetensors");
  model::LoraAdapters adapters(folder.config(), config(), at::kFloat, 1, false);
  adapters.start_from_base(model::principal_parts(folder, adapters, {.iterations = 16, .seed = 5}));
  for (const auto& pair : adapters.pairs()) {
    const auto weight = weights.at(pair.module_path + ".weight").to(at::kFloat);
    const auto& a = theirs.at("start." + phi3::lora_tensor_name(pair.module_path, 'A'));
    const auto& b = theirs.at("start." + phi3::lora_tensor_name(pair.module_path, 'B'));
    EXPECT_LE(excess(weight, at::mm(b, a) * pair.scale, pair.rank), 1.01) << pair.module_path;
    EXPECT_LE(excess(weight, at::mm(pair.b, pair.a) * pair.scale, pair.rank), 1.01) << pair.module_path;
  }
}

// Of tall and of wide linears: B A is W's projection on the range that was found, so what is left is orthogonal to it,
// and columns of B and rows of A are orthogonal among themselves and of equal length.
TEST(Pissa, TheRandomisedStartIsAProjection) {
  const test::TempFolder folder;
  auto setup = test::make_deep_setup(folder / "base", 1, {});
  setup.adapters->start_from_base(model::principal_parts(*setup.folder, *setup.adapters, {.iterations = 2, .seed = 9}));
  const auto weights = read_tensors(folder / "base/model.safetensors");
  int tall = 0;
  int wide = 0;
  for (const auto& pair : setup.adapters->pairs()) {
    const auto weight = weights.at(pair.module_path + ".weight").to(at::kFloat);
    const bool is_wide = weight.size(0) < weight.size(1);
    (is_wide ? wide : tall) += 1;
    const auto left = weight - at::mm(pair.b, pair.a) * pair.scale;
    const auto beside = is_wide ? at::mm(left, pair.a.t()) : at::mm(pair.b.t(), left);
    EXPECT_LE(beside.abs().max().item<double>(), 1e-4 * weight.norm().item<double>()) << pair.module_path;
    const auto columns = at::mm(pair.b.t(), pair.b);
    const auto rows = at::mm(pair.a, pair.a.t());
    EXPECT_LE(relative_error(columns, rows), 1e-4) << pair.module_path;
    EXPECT_LE(relative_error(columns, columns.diagonal().diag()), 1e-4) << pair.module_path;
  }
  EXPECT_GE(tall, 1);
  EXPECT_GE(wide, 1);
}

TEST(Pissa, TheRandomisedStartDependsOnTheSeedAlone) {
  const auto folder = phi3::ModelFolder::open(kBase);
  const model::LoraAdapters adapters(folder.config(), config(), at::kFloat, 1, false);
  const auto one = model::principal_parts(folder, adapters, {.iterations = 0, .seed = 5});
  EXPECT_TRUE(at::equal(one, model::principal_parts(folder, adapters, {.iterations = 0, .seed = 5})));
  EXPECT_FALSE(at::equal(one, model::principal_parts(folder, adapters, {.iterations = 0, .seed = 6})));
}

TEST(Pissa, ForwardAndBackwardOverWhatIsLeftEqualPeft) {
  const auto folder = phi3::ModelFolder::open(kBase);
  const auto wanted = reference("gqa_pissa");
  model::LoraAdapters adapters(folder.config(), config(), at::kFloat, 1, false);
  adapters.start_from_base(flat_of(adapters, wanted, "start."));
  model::Phi3Options options;
  options.principal = &adapters;
  auto model = model::Phi3Model::load(folder, options);
  adapters.parameters().copy_(flat_of(adapters, wanted, "trained."));
  model.attach(&adapters);
  const auto batch = test::make_batch(test::documents_of(wanted), at::kFloat);
  EXPECT_LE(relative_error(model.logits(batch), wanted.at("logits")[0]), 1e-5);
  const auto targets = static_cast<double>(batch.targets.numel());
  const auto sums = model.forward_backward(batch, 1.0 / targets, 1);
  const double loss = wanted.at("loss").item<double>();
  EXPECT_LE(std::abs(sums.weighted_loss / sums.weight - loss) / loss, 1e-5);
  EXPECT_LE(test::gradient_error(adapters, wanted), 1e-5);
}

// At the start base and adapter together are the base: in float32 to its rounding, in NF4 nearer than the base in NF4.
TEST(Pissa, NothingIsLostAtTheStart) {
  const auto folder = phi3::ModelFolder::open(kBase);
  const auto batch = test::deep_batch();
  auto base = model::Phi3Model::load(folder, {});
  const auto wanted = base.logits(batch).clone();
  model::LoraAdapters adapters(folder.config(), config(), at::kFloat, 1, false);
  adapters.start_from_base(model::principal_parts(folder, adapters, {}));
  for (const bool quantize : {false, true}) {
    model::Phi3Options options;
    options.quantize = quantize;
    auto plain = model::Phi3Model::load(folder, options);
    const double error_without = relative_error(plain.logits(batch), wanted);
    options.principal = &adapters;
    auto model = model::Phi3Model::load(folder, options);
    model.attach(&adapters);
    const double error = relative_error(model.logits(batch), wanted);
    if (quantize) {
      EXPECT_LT(error, error_without);
    } else {
      EXPECT_LE(error, 1e-5);
    }
    model.attach(nullptr);
    EXPECT_GT(relative_error(model.logits(batch), wanted), 2 * error);  // the part is really gone from the base
  }
}

TEST(Pissa, WhatCannotBeTakenApartIsRefused) {
  const auto folder = phi3::ModelFolder::open(kBase);
  auto too_much = config();
  too_much.rank = 65;
  const model::LoraAdapters wide(folder.config(), too_much, at::kFloat, 1, false);
  EXPECT_THROW(model::principal_parts(folder, wide, {}), ConfigError);
  const auto quantised = phi3::ModelFolder::open(test::kReferences + "/models/mha_nf4_float32");
  const model::LoraAdapters over_nf4(quantised.config(), config(), at::kFloat, 1, false);
  EXPECT_THROW(model::principal_parts(quantised, over_nf4, {}), ConfigError);
  request_stop();
  const model::LoraAdapters adapters(folder.config(), config(), at::kFloat, 1, false);
  EXPECT_THROW(model::principal_parts(folder, adapters, {}), Interrupted);
  forget_stop();
}

}  // namespace
}  // namespace phi3tune
