#include "fixture.h"

namespace phi3tune::ops::test {
namespace {

constexpr double kScale = 2.0;

class Lora : public ByKernel {};

struct Case {
  int64_t tokens, inputs, outputs, rank;
};
constexpr Case kCases[] = {{1, 8, 8, 1},      {5, 33, 31, 3},   {33, 64, 96, 16},
                           {70, 129, 257, 8}, {40, 96, 64, 64}, {9, 160, 130, 37}};

// y = x W^T + scale (branch A^T) B^T, by the definitions.
at::Tensor adapted(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& weight, const at::Tensor& a,
                   const at::Tensor& b) {
  return definition::lora(definition::linear(x, weight), branch, a, b, kScale);
}

TEST_P(Lora, ForwardHoldsToTheDefinition) {
  for (const Case& c : kCases) {
    const at::Tensor x = normal({c.tokens, c.inputs}, dtype()), branch = normal({c.tokens, c.inputs}, dtype());
    const at::Tensor weight = normal({c.outputs, c.inputs}, dtype(), 0.2);
    const at::Tensor a = normal({c.rank, c.inputs}, dtype(), 0.2), b = normal({c.outputs, c.rank}, dtype(), 0.2);
    const Guarded y({c.tokens, c.outputs}, dtype()), u({c.tokens, c.rank}, dtype());
    adapted_linear(y, u, x, branch, {weight}, {a, b, kScale});
    const auto in = [&](at::ScalarType t) { return adapted(x.to(t), branch.to(t), weight.to(t), a.to(t), b.to(t)); };
    expect_close(y, in(dtype()), in(at::kDouble));
    expect_close(u, at::matmul(branch, a.t()), at::matmul(branch.to(at::kDouble), a.to(at::kDouble).t()));
    EXPECT_TRUE(y.intact() && u.intact());
  }
}

TEST_P(Lora, WeightGradientsAddThoseOfAutograd) {
  for (const Case& c : kCases) {
    const at::Tensor x = normal({c.tokens, c.inputs}, dtype()), dy = normal({c.tokens, c.outputs}, dtype());
    const at::Tensor a = normal({c.rank, c.inputs}, dtype(), 0.2), b = normal({c.outputs, c.rank}, dtype(), 0.2);
    const at::Tensor before_a = normal({c.rank, c.inputs}, wide()), before_b = normal({c.outputs, c.rank}, wide());
    const at::Tensor u = at::matmul(x, a.t()), weight = normal({c.outputs, c.inputs}, dtype());
    const Guarded grad_a(before_a), grad_b(before_b), du({c.tokens, c.rank}, dtype());
    lora_output_gradient(grad_b, du, dy, u, {weight}, {a, b, kScale});
    lora_input_weight_gradient(grad_a, du, x);
    const auto by_autograd = [&](at::ScalarType t) {
      const at::Tensor zero = at::zeros({c.tokens, c.outputs}, t);
      auto got = gradients([&](const auto& in) { return definition::lora(zero, x.to(t), in[0], in[1], kScale); },
                           {a.to(t), b.to(t)}, dy.to(t));
      return std::pair(got[0].to(wide_dtype(t)) + before_a, got[1].to(wide_dtype(t)) + before_b);
    };
    const auto [aten_a, aten_b] = by_autograd(dtype());
    const auto [exact_a, exact_b] = by_autograd(at::kDouble);
    expect_close(grad_a, aten_a, exact_a);
    expect_close(grad_b, aten_b, exact_b);
    // ATen's two roundings are the yardstick of du.
    expect_close(du, at::matmul(dy, b) * kScale, at::matmul(dy.to(at::kDouble), b.to(at::kDouble)) * kScale);
    EXPECT_TRUE(grad_a.intact() && grad_b.intact() && du.intact());
  }
}

// bfloat16 inputs, float32 sums: the error stays that of float32 sums, and small steps are not lost in a large sum.
TEST_P(Lora, WeightGradientsAccumulateInTheWideType) {
  const at::Tensor x = normal({512, 64}, dtype()), dy = normal({512, 96}, dtype()), b = normal({96, 16}, dtype());
  const at::Tensor u = normal({512, 16}, dtype()), a = normal({16, 64}, dtype()), weight = normal({96, 64}, dtype());
  const at::Tensor grad_a = at::full({16, 64}, 1000.0, wide()), grad_b = at::full({96, 16}, 1000.0, wide());
  const at::Tensor du = at::empty({512, 16}, dtype());
  lora_output_gradient(grad_b, du, dy, u, {weight}, {a, b, 1e-3});
  lora_input_weight_gradient(grad_a, du, x);
  const auto d = [](const at::Tensor& t) { return t.to(at::kDouble); };
  const double tolerance = dtype() == at::kDouble ? 1e-12 : 1e-6;
  EXPECT_LE(relative_error(grad_b, at::matmul(d(dy).t(), d(u)) * 1e-3 + 1000.0), tolerance);
  EXPECT_LE(relative_error(grad_a, at::matmul(d(du).t(), d(x)) + 1000.0), tolerance);
}

TEST_P(Lora, InputGradientIsThatOfAutogradWithAndWithoutDropout) {
  for (const Case& c : kCases) {
    const std::vector<int32_t> ends{0, static_cast<int32_t>(c.tokens / 2), static_cast<int32_t>(c.tokens)};
    const std::vector<uint64_t> ids{3, 4};
    for (const double p : {0.0, 0.3}) {
      const DropoutKey key{.p = p, .seed = 1, .step = 2, .layer = 3, .module = 0, .sample_ids = ids};
      const at::Tensor du = normal({c.tokens, c.rank}, dtype()), a = normal({c.rank, c.inputs}, dtype(), 0.2);
      const at::Tensor dy = normal({c.tokens, c.outputs}, dtype()), b = normal({c.outputs, c.rank}, dtype());
      const at::Tensor weight = normal({c.outputs, c.inputs}, dtype(), 0.2),
                       scratch = at::empty({c.tokens, c.inputs}, dtype());
      const Guarded dx({c.tokens, c.inputs}, dtype());
      adapted_input_gradient(dx, scratch, dy, du, {weight}, {a, b, kScale}, {ends}, key);
      const auto in = [&](at::ScalarType t) {
        const at::Tensor product = at::matmul(du.to(t), a.to(t));
        return at::matmul(dy.to(t), weight.to(t)) + (p == 0.0 ? product : definition::dropout(product, {ends}, key));
      };
      expect_close(dx, in(dtype()), in(at::kDouble));
      EXPECT_TRUE(dx.intact());
    }
  }
}

TEST_P(Lora, RepeatsBitForBitAndForAnyThreads) {
  const at::Tensor x = normal({300, 200}, dtype()), dy = normal({300, 150}, dtype()), b = normal({150, 16}, dtype());
  const at::Tensor a = normal({16, 200}, dtype());
  const at::Tensor weight =
      at::zeros({150, 200}, dtype());  // the base product is the library's: other bits for other threads
  const auto run = [&](int threads, int64_t offset) {
    const Threads scope(threads);
    const Guarded grad_a(at::zeros({16, 200}, wide()), offset), grad_b(at::zeros({150, 16}, wide()), offset);
    const Guarded in(x, offset), d(dy, offset), du({300, 16}, dtype(), offset), u({300, 16}, dtype(), offset);
    const Guarded y({300, 150}, dtype(), offset);
    adapted_linear(y, u, in, in, {weight}, {a, b, 0.5});
    lora_output_gradient(grad_b, du, d, u, {weight}, {a, b, 0.5});
    lora_input_weight_gradient(grad_a, du, in);
    return at::cat({grad_a.tensor().flatten(), grad_b.tensor().flatten(), y.tensor().flatten().to(wide())});
  };
  const at::Tensor once = run(2, 0);
  EXPECT_TRUE(same_bits(once, run(2, 0)));
  EXPECT_TRUE(same_bits(once, run(2, 64)));
  EXPECT_TRUE(same_bits(once, run(1, 0)));
}

FOR_ALL_KERNELS(Lora);

class Linear : public ByDtype {};

TEST_P(Linear, ForwardAndInputGradientHoldToTheDefinition) {
  for (const Case& c : kCases) {
    const at::Tensor x = normal({c.tokens, c.inputs}, dtype()), weight = normal({c.outputs, c.inputs}, dtype(), 0.2);
    const at::Tensor dy = normal({c.tokens, c.outputs}, dtype());
    const Guarded y({c.tokens, c.outputs}, dtype()), dx({c.tokens, c.inputs}, dtype());
    ops::linear(y, x, {weight});
    linear_input_gradient(dx, dy, {weight});
    const auto wanted = [&](at::ScalarType t) { return definition::linear(x.to(t), weight.to(t)); };
    const auto by_autograd = [&](at::ScalarType t) {
      return gradients([&](const auto& in) { return definition::linear(in[0], weight.to(t)); }, {x.to(t)}, dy.to(t))[0];
    };
    expect_close(y, wanted(dtype()), wanted(at::kDouble));
    expect_close(dx, by_autograd(dtype()), by_autograd(at::kDouble));
    EXPECT_TRUE(y.intact() && dx.intact());
  }
}

TEST_P(Linear, WrongShapesAreABugOfOurs) {
  const at::Tensor x = normal({2, 3}, dtype()), weight = normal({4, 3}, dtype());
  EXPECT_THROW(ops::linear(at::empty({2, 5}, dtype()), x, {weight}), InternalError);
  EXPECT_THROW(ops::linear(at::empty({2, 4}, dtype()), x, {normal({4, 5}, dtype())}), InternalError);
  EXPECT_THROW(ops::linear(at::empty({2, 4}, at::kHalf), x, {weight}), InternalError);
}

// Widths of a model, where bfloat16 takes packed panels: several blocks of rows, of columns and of the sum.
TEST_P(Linear, InputGradientHoldsToTheDefinitionInBlocks) {
  const at::Tensor dy = normal({530, 640}, dtype()), weight = normal({640, 320}, dtype());
  const Guarded dx({530, 320}, dtype());
  linear_input_gradient(dx, dy, {weight});
  const at::Tensor exact = at::mm(dy.to(at::kDouble), weight.to(at::kDouble));
  expect_close(dx, at::mm(dy, weight), exact);
  EXPECT_TRUE(dx.intact());
  const Guarded again({530, 320}, dtype(), 64);
  linear_input_gradient(again, dy, {weight});
  EXPECT_TRUE(same_bits(again.tensor(), dx.tensor()));
}

FOR_ALL_DTYPES(Linear);

}  // namespace
}  // namespace phi3tune::ops::test
