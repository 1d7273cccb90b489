// Products, and adapters as part of them.
#include "fixture.h"

namespace phi3tune::cuda::test {
namespace {

struct Size {
  int64_t tokens, inputs, outputs, rank, room;  // room: a multiple of 8, at least the rank
};
constexpr Size kSizes[] = {
    {9, 48, 40, 8, 8}, {5, 33, 21, 5, 8}, {12, 64, 96, 5, 24}, {1, 16, 24, 1, 8}, {0, 16, 24, 4, 8}};
constexpr double kScale = 1.5;

// A linear with an adapter, in each form that it may be given in.
struct Layer {
  Layer(const Size& size, at::ScalarType dtype)
      : x(normal({size.tokens, size.inputs}, dtype)),
        dy(normal({size.tokens, size.outputs}, dtype)),
        masters_a(normal({size.rank, size.inputs}, dtype, 0.2).to(at::kFloat)),
        masters_b(normal({size.outputs, size.rank}, dtype, 0.2).to(at::kFloat)),
        adapter{masters_a.to(dtype), masters_b.to(dtype), kScale} {
    const Tensor w = normal({size.outputs, size.inputs}, dtype, 0.2);
    plain.matrix = w;
    extended.extended =
        at::full({size.outputs + size.room, size.inputs + size.room}, std::numeric_limits<double>::quiet_NaN(), dtype);
    extended.matrix = extended.extended.narrow(0, 0, size.outputs).narrow(1, 0, size.inputs);
    extended.matrix.copy_(w);
    ops::write_extension(extended, masters_a, masters_b, kScale);
  }
  Tensor x, dy, masters_a, masters_b;
  ops::LowRank adapter;
  ops::LinearWeight plain, extended;
};

class Linear : public ByDtype {};

TEST_P(Linear, IsTheDefinitionForwardAndBackward) {
  for (const Size& size : kSizes) {
    const Layer layer(size, dtype());
    const Spaced x(layer.x, 8);
    const Spaced y({size.tokens, size.outputs}, dtype(), 3);
    ops::linear(y, x, layer.extended);
    expect_close(y, ops::definition::linear(layer.x, layer.plain.matrix),
                 ops::definition::linear(exactly(layer.x), exactly(layer.plain.matrix)));
    const Spaced dy(layer.dy, 8);
    const Spaced dx({size.tokens, size.inputs}, dtype(), 3);
    ops::linear_input_gradient(dx, dy, layer.extended);
    expect_close(dx, at::matmul(layer.dy, layer.plain.matrix),
                 at::matmul(exactly(layer.dy), exactly(layer.plain.matrix)));
    EXPECT_TRUE(x.intact() && y.intact() && dy.intact() && dx.intact());
  }
}

TEST_P(Linear, TheExtensionHoldsTheAdapterAndZeros) {
  const Size size{3, 33, 21, 5, 16};
  Layer layer(size, dtype());
  layer.masters_a = normal({size.rank, size.inputs}, at::kFloat);
  layer.masters_b = normal({size.outputs, size.rank}, at::kFloat);
  ops::write_extension(layer.extended, layer.masters_a, layer.masters_b, kScale);
  const Tensor& whole = layer.extended.extended;
  const Tensor a = whole.narrow(0, size.outputs, size.room).narrow(1, 0, size.inputs);
  const Tensor b = whole.narrow(0, 0, size.outputs).narrow(1, size.inputs, size.room);
  EXPECT_TRUE(same_bits(a.narrow(0, 0, size.rank), layer.masters_a.to(dtype())));
  EXPECT_TRUE(same_bits(b.narrow(1, 0, size.rank), layer.masters_b.mul(kScale).to(dtype())));
  EXPECT_TRUE(a.narrow(0, size.rank, size.room - size.rank).eq(0).all().item<bool>());
  EXPECT_TRUE(b.narrow(1, size.rank, size.room - size.rank).eq(0).all().item<bool>());
  EXPECT_TRUE(same_bits(layer.extended.matrix, layer.plain.matrix));
}

// One adapted linear, forward and backward.
struct Results {
  Tensor y, u, du, dx, grad_a, grad_b;
};

Results run(const Layer& layer, const Size& size, bool room, const Tensor& branch, const Packed& packed, double p) {
  const at::ScalarType dtype = layer.x.scalar_type();
  const ops::LinearWeight& weight = room ? layer.extended : layer.plain;
  const int64_t behind = room ? size.room : 0;
  const Spaced x(layer.x, behind), dy(layer.dy, behind);
  const bool dropped = p > 0.0;
  const Guarded y({size.tokens, size.outputs}, dtype), u({size.tokens, size.rank}, dtype);
  const Guarded own_du({size.tokens, size.rank}, dtype);
  const Tensor du = room ? dy.room().narrow(1, 0, size.rank) : own_du.tensor();
  const Spaced dx({size.tokens, size.inputs}, dtype, 8);
  const Tensor scratch = dropped ? at::empty({size.tokens, size.inputs}, dtype) : Tensor();
  // Gradients accumulate.
  const Tensor grad_a = at::full({size.rank, size.inputs}, 0.5, at::kFloat);
  const Tensor grad_b = at::full({size.outputs, size.rank}, -0.25, at::kFloat);
  const Tensor& given = dropped ? branch : x.tensor();
  ops::adapted_linear(y, u, x, given, weight, layer.adapter);
  ops::lora_output_gradient(grad_b, du, dy, u, weight, layer.adapter);
  ops::lora_input_weight_gradient(grad_a, du, given);
  ops::adapted_input_gradient(dx, scratch, dy, du, weight, layer.adapter, packed.documents(), packed.key(p));
  EXPECT_TRUE(y.intact() && u.intact() && own_du.intact() && dx.intact());
  return {y, u, du.contiguous(), dx, grad_a, grad_b};
}

// With room the scale is inside the weight, rounded with B; else it comes after the product.
Results definition(const Layer& layer, const Tensor& factors, at::ScalarType type, bool room = false) {
  const Tensor x = layer.x.to(type), w = layer.plain.matrix.to(type), a = layer.adapter.a.to(type),
               b = layer.adapter.b.to(type), dy = layer.dy.to(type);
  const Tensor branch = factors.defined() ? (x * factors.to(type)) : x;
  const Tensor u = at::matmul(branch, a.t());
  const Tensor du = room ? at::matmul(dy, b * kScale) : at::matmul(dy, b) * kScale;
  const Tensor through = at::matmul(du, a);
  // The weight gradients are sums in float32 of products of rounded factors.
  const auto wide = type == at::kDouble ? at::kDouble : at::kFloat;
  return {at::matmul(x, w.t()) + (room ? at::matmul(u, (b * kScale).t()) : at::matmul(u, b.t()) * kScale),
          u,
          du,
          at::matmul(dy, w) + (factors.defined() ? through * factors.to(type) : through),
          at::matmul(du.to(wide).t(), branch.to(wide)) + 0.5,
          at::matmul(dy.to(wide).t(), u.to(wide)) * kScale - 0.25};
}

void expect_results(const Results& ours, const Results& aten, const Results& exact) {
  expect_close(ours.y, aten.y, exact.y);
  expect_close(ours.u, aten.u, exact.u);
  expect_close(ours.du, aten.du, exact.du);
  expect_close(ours.dx, aten.dx, exact.dx);
  expect_close(ours.grad_a, aten.grad_a, exact.grad_a);
  expect_close(ours.grad_b, aten.grad_b, exact.grad_b);
}

class Adapted : public ByDtype {};

TEST_P(Adapted, AsOneProductOrAsTwoItIsTheDefinition) {
  for (const Size& size : kSizes) {
    const Layer layer(size, dtype());
    const Packed packed({static_cast<int32_t>(size.tokens)});
    const Results exact = definition(layer, {}, at::kDouble);
    for (const bool room : {false, true}) {
      SCOPED_TRACE(testing::Message() << size.tokens << " tokens, rank " << size.rank << (room ? ", room" : ""));
      expect_results(run(layer, size, room, {}, packed, 0.0), definition(layer, {}, dtype(), room), exact);
    }
  }
}

TEST_P(Adapted, DropoutComesBeforeTheBranchOnly) {
  const Size size{11, 40, 24, 5, 8};
  const double p = 0.25;
  const Layer layer(size, dtype());
  const Packed packed({4, 7});
  const Tensor branch = ops::definition::dropout(layer.x, packed.documents(), packed.key(p));
  const Tensor factors = ops::definition::dropout_factors(size.inputs, packed.documents(), packed.key(p), at::kDouble);
  const Results exact = definition(layer, factors, at::kDouble);
  for (const bool room : {false, true}) {
    expect_results(run(layer, size, room, branch, packed, p), definition(layer, factors, dtype(), room), exact);
  }
}

// The point of the room: a pass over y and one over dx fewer.
TEST_P(Adapted, WithRoomBaseAndAdapterAreOneProduct) {
  const Size size{9, 48, 40, 8, 8};
  const Layer layer(size, dtype());
  const Packed packed({9});
  const auto products = [&](bool room) {
    const uint64_t before = counters().gemms;
    run(layer, size, room, {}, packed, 0.0);
    return counters().gemms - before;
  };
  EXPECT_EQ(products(true), 2 + 2 + 1 + 1);
  EXPECT_EQ(products(false), 3 + 2 + 1 + 2);
}

TEST_P(Adapted, TooLittleRoomIsLeftAlone) {
  const Size size{4, 16, 24, 4, 8};
  const Layer layer(size, dtype());
  // One row more, so that the memory behind the last is there.
  const auto with_one_more = [](const Tensor& rows) { return at::cat({rows, rows.narrow(0, 0, 1)}); };
  const Spaced more_x(with_one_more(layer.x), size.room - 1), more_dy(with_one_more(layer.dy), size.room - 1);
  const Tensor x = more_x.tensor().narrow(0, 0, size.tokens), dy = more_dy.tensor().narrow(0, 0, size.tokens);
  const Guarded y({size.tokens, size.outputs}, dtype()), u({size.tokens, size.rank}, dtype());
  const Guarded du({size.tokens, size.rank}, dtype()), dx({size.tokens, size.inputs}, dtype());
  const Packed packed({4});
  ops::adapted_linear(y, u, x, x, layer.extended, layer.adapter);
  ops::lora_output_gradient(at::zeros({size.outputs, size.rank}, at::kFloat), du, dy, u, layer.extended, layer.adapter);
  ops::adapted_input_gradient(dx, {}, dy, du, layer.extended, layer.adapter, packed.documents(), packed.key(0.0));
  expect_close(y, definition(layer, {}, dtype()).y, definition(layer, {}, at::kDouble).y);
  expect_close(dx, definition(layer, {}, dtype()).dx, definition(layer, {}, at::kDouble).dx);
  EXPECT_TRUE(more_x.intact() && more_dy.intact());
}

// Rows that happen to be far apart are no room: the last one's would lie outside the memory.
TEST_P(Adapted, RoomBehindTheMemoryIsNotUsed) {
  const Size size{4, 16, 24, 4, 8};
  const Layer layer(size, dtype());
  const Tensor memory = at::full({size.tokens * 24 - 8}, 768.0, dtype());
  const Tensor x = memory.as_strided({size.tokens, size.inputs}, {24, 1});
  x.copy_(layer.x);
  const Guarded y({size.tokens, size.outputs}, dtype()), u({size.tokens, size.rank}, dtype());
  ops::adapted_linear(y, u, x, x, layer.extended, layer.adapter);
  expect_close(y, definition(layer, {}, dtype()).y, definition(layer, {}, at::kDouble).y);
  EXPECT_EQ(memory.eq(768.0).sum().item<int64_t>(), 3 * 8);
}

FOR_BOTH_DTYPES(Linear);
FOR_BOTH_DTYPES(Adapted);

}  // namespace
}  // namespace phi3tune::cuda::test
