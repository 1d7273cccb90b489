// The network against transformers and PEFT, in every precision: logits, loss, and each adapter's gradients.
#include "reference.h"

#include <gtest/gtest.h>

#include <cmath>

namespace phi3tune {
namespace {

using test::make_batch;
using test::make_setup;
using test::read_tensors;
using test::relative_error;

struct Case {
  const char* kind;
  const char* batch;
};
const Case kCases[] = {{"mha", "long"},       {"gqa", "long"},     {"longrope", "long"},
                       {"longrope", "short"}, {"partial", "long"}, {"partial", "short"}};

std::string file(const Case& c, const std::string& layout, const std::string& precision) {
  return test::kReferences + "/forward_backward/" + c.kind + "." + c.batch + "." + layout + "." + precision +
         ".safetensors";
}

struct Errors {
  double logits = 0.0;
  double loss = 0.0;
  double gradients = 0.0;
};

// Ours in `options`' precision against `reference`; the batch is that of `inputs`.
Errors errors(const std::string& kind, const model::Phi3Options& options,
              const std::map<std::string, at::Tensor>& inputs, const std::map<std::string, at::Tensor>& reference) {
  auto setup = make_setup(kind, options);
  const auto batch = make_batch(test::documents_of(inputs), setup.model->wide_dtype());
  Errors out;
  out.logits = relative_error(setup.model->logits(batch), reference.at("logits")[0]);
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
  options.head_chunk = 16;  // several chunks
  return options;
}

TEST(Phi3Reference, Float64EqualsExactTransformers) {
  for (const auto& c : kCases) {
    SCOPED_TRACE(std::string(c.kind) + " " + c.batch);
    const auto reference = read_tensors(file(c, "packed", "float64"));
    const auto e = errors(c.kind, in(at::kDouble), reference, reference);
    // Two orders of sums in fp64, over widths of at most 64.
    EXPECT_LE(e.logits, 1e-12);
    EXPECT_LE(e.loss, 1e-12);
    EXPECT_LE(e.gradients, 1e-11);
  }
}

TEST(Phi3Reference, Float64RowsAloneEqualTransformersPaddedRows) {
  for (const auto& c : kCases) {
    SCOPED_TRACE(std::string(c.kind) + " " + c.batch);
    const auto packed = read_tensors(file(c, "packed", "float64"));
    const auto padded = read_tensors(file(c, "padded", "float64"));
    auto setup = make_setup(c.kind, in(at::kDouble));
    const auto documents = test::documents_of(packed);
    // The library picks LongRoPE's table for a whole batch, so a row may stand alone only where every row agrees.
    if (std::string(c.batch) == "long" && setup.folder->config().rope.type == phi3::RopeType::kLongRope) {
      continue;
    }
    for (size_t i = 0; i < documents.size(); ++i) {
      const auto logits = setup.model->logits(make_batch({documents[i]}, at::kDouble));
      const auto wanted = padded.at("logits")[static_cast<int64_t>(i)].narrow(0, 0, logits.size(0));
      EXPECT_LE(relative_error(logits, wanted), 1e-12);
    }
  }
}

TEST(Phi3Reference, Float32WithinTenMillionthsOfTransformers) {
  for (const auto& c : kCases) {
    if (std::string(c.batch) != "long") {
      continue;
    }
    SCOPED_TRACE(c.kind);
    const auto e = errors(c.kind, in(at::kFloat), read_tensors(file(c, "packed", "float64")),
                          read_tensors(file(c, "packed", "float32")));
    EXPECT_LE(e.logits, 1e-5);
    EXPECT_LE(e.loss, 1e-5);
    EXPECT_LE(e.gradients, 1e-5);
  }
}

TEST(Phi3Reference, BFloat16NoWorseThanTwiceTransformersOwnError) {
  for (const auto& c : kCases) {
    if (std::string(c.batch) != "long") {
      continue;
    }
    SCOPED_TRACE(c.kind);
    const auto exact = read_tensors(file(c, "packed", "float64"));
    const auto theirs = read_tensors(file(c, "packed", "bfloat16"));
    const auto ours = errors(c.kind, in(at::kBFloat16), exact, exact);
    double their_gradients = 0.0;
    for (const auto& [name, value] : theirs) {
      if (name.starts_with("grad.")) {
        their_gradients = std::max(their_gradients, relative_error(value, exact.at(name)));
      }
    }
    EXPECT_LE(ours.logits, 2 * relative_error(theirs.at("logits"), exact.at("logits")));
    EXPECT_LE(ours.gradients, 2 * their_gradients);
  }
}

TEST(Phi3Reference, PrequantizedBaseEqualsBitsandbytes) {
  const Case fp32{"mha_nf4_float32", "long"};
  const auto exact = read_tensors(file(fp32, "packed", "float64"));
  const auto e = errors(fp32.kind, in(at::kDouble), exact, exact);
  EXPECT_LE(e.logits, 1e-12);
  EXPECT_LE(e.gradients, 1e-11);
  const auto f = errors(fp32.kind, in(at::kFloat), exact, exact);
  EXPECT_LE(f.logits, 1e-5);
  EXPECT_LE(f.gradients, 1e-5);

  const Case bf16{"mha_nf4_bfloat16", "long"};
  const auto exact_bf16 = read_tensors(file(bf16, "packed", "float64"));
  const auto theirs = read_tensors(file(bf16, "packed", "bfloat16"));
  const auto g = errors(bf16.kind, in(at::kBFloat16), exact_bf16, exact_bf16);
  EXPECT_LE(g.logits, 2 * relative_error(theirs.at("logits"), exact_bf16.at("logits")));
}

}  // namespace
}  // namespace phi3tune
