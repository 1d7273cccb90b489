// What the host cannot show of the GPU's libraries: products in every layout, adapters, attention, against the CPU and
// float64, and the same bits each time. Tensors go to the back end's memory and back, so that the same file runs on
// both.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "backend_under_test.h"
#include "phi3tune/ops/definitions.h"
#include "support/tensors.h"

namespace phi3tune::cuda::test {
namespace {

using namespace phi3tune::test;
using at::Tensor;

Tensor place(at::IntArrayRef shape, at::ScalarType dtype, int64_t room = 0) {
  const int64_t rows = shape[0], columns = shape.size() > 1 ? shape[1] : 1;
  const Tensor block = backend_under_test()
                           .memory.allocate(static_cast<size_t>(rows * (columns + room)) * c10::elementSize(dtype))
                           .view(dtype);
  return shape.size() > 1 ? block.view({rows, columns + room}).narrow(1, 0, columns) : block;
}
Tensor send(const Tensor& values, int64_t room = 0) {
  const Tensor there = place(values.sizes(), values.scalar_type(), room);
  if (values.numel() > 0) {
    backend_under_test().memory.upload(there, values.contiguous().data_ptr());
  }
  return there;
}
// Of rows that may be apart: through a contiguous copy by the back end itself.
Tensor fetch(const Tensor& there) {
  const Tensor whole = there.is_contiguous() ? there : there.contiguous();
  const Tensor here = at::empty(there.sizes(), there.scalar_type());
  backend_under_test().memory.download(here.data_ptr(), whole);
  return here;
}

class DeviceParity : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    at::manual_seed(7);
    ops::choose_backend(backend_under_test());
  }
  void TearDown() override { ops::choose_backend(ops::cpu_backend()); }
  at::ScalarType dtype() const { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Dtypes, DeviceParity, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

struct Size {
  int64_t tokens, inputs, outputs, rank, room;
};
constexpr Size kSizes[] = {{1, 96, 64, 8, 8}, {77, 96, 200, 5, 8}, {200, 256, 96, 16, 24}, {300, 64, 128, 1, 8}};
constexpr double kScale = 2.0;  // exact in every dtype

TEST_P(DeviceParity, AdaptedProductsAndTheirGradients) {
  for (const Size& s : kSizes) {
    const Tensor x = normal({s.tokens, s.inputs}, dtype()), dy = normal({s.tokens, s.outputs}, dtype());
    const Tensor w = normal({s.outputs, s.inputs}, dtype(), 0.1);
    const Tensor a = normal({s.rank, s.inputs}, dtype(), 0.1), b = normal({s.outputs, s.rank}, dtype(), 0.1);
    const auto defined = [&](at::ScalarType type) {
      const auto wide = type == at::kDouble ? at::kDouble : at::kFloat;
      const Tensor u = at::matmul(x.to(type), a.to(type).t()), du = at::matmul(dy.to(type), b.to(type)) * kScale;
      return std::vector<Tensor>{at::matmul(x.to(type), w.to(type).t()) + at::matmul(u, b.to(type).t()) * kScale,
                                 u,
                                 du,
                                 at::matmul(dy.to(type), w.to(type)) + at::matmul(du, a.to(type)),
                                 at::matmul(du.to(wide).t(), x.to(wide)) + 1.0,
                                 at::matmul(dy.to(wide).t(), u.to(wide)) * kScale + 1.0};
    };
    const auto aten = defined(dtype()), exact = defined(at::kDouble);
    for (const bool room : {false, true}) {
      const int64_t p = room ? s.room : 0;
      ops::LinearWeight weight;
      if (room) {
        weight.extended = send(at::zeros({s.outputs + p, s.inputs + p}, dtype()));
        weight.matrix = weight.extended.narrow(0, 0, s.outputs).narrow(1, 0, s.inputs);
        backend_under_test().memory.upload(weight.matrix, w.data_ptr());
        ops::write_extension(weight, send(a.to(at::kFloat)), send(b.to(at::kFloat)), kScale);
      } else {
        weight.matrix = send(w);
      }
      const ops::LowRank adapter{send(a), send(b), kScale};
      const Tensor x_there = send(x, p), dy_there = send(dy, p);
      const Tensor y = place({s.tokens, s.outputs}, dtype()), u = place({s.tokens, s.rank}, dtype());
      const Tensor du =
          room ? dy_there.as_strided({s.tokens, s.rank}, dy_there.strides(), dy_there.storage_offset() + s.outputs)
               : place({s.tokens, s.rank}, dtype());
      const Tensor dx = place({s.tokens, s.inputs}, dtype(), 8);
      const Tensor grad_a = send(at::ones({s.rank, s.inputs}, at::kFloat));
      const Tensor grad_b = send(at::ones({s.outputs, s.rank}, at::kFloat));
      ops::adapted_linear(y, u, x_there, x_there, weight, adapter);
      ops::lora_output_gradient(grad_b, du, dy_there, u, weight, adapter);
      ops::lora_input_weight_gradient(grad_a, du, x_there);
      ops::adapted_input_gradient(dx, {}, dy_there, du, weight, adapter, {}, {});
      const Tensor ours[] = {y, u, du, dx, grad_a, grad_b};
      for (size_t i = 0; i < aten.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "result " << i << ", " << s.tokens << " tokens" << (room ? ", room" : ""));
        expect_close(fetch(ours[i]), aten[i], exact[i]);
      }
    }
  }
}

struct Attention {
  ops::HeadShape heads;
  std::vector<int32_t> ends;
  int64_t window;
};
const Attention kAttentions[] = {{{4, 4, 96, 96}, {0, 300}, 0},
                                 {{4, 4, 96, 96}, {0, 5, 5, 140, 141, 205}, 47},
                                 {{8, 2, 128, 128}, {0, 64, 193}, 0},
                                 {{4, 2, 64, 64}, {0, 1, 2, 3}, 0},
                                 {{4, 1, 16, 16}, {0, 33, 65}, 9}};

struct Attended {
  Tensor out, lse, dqkv;
};
Attended attend(const Attention& c, const Tensor& qkv, const Tensor& dout) {
  const int64_t tokens = c.ends.back(), width = c.heads.num_heads * c.heads.head_dim;
  const Tensor ends_there = send(at::tensor(c.ends, at::kInt));
  const ops::Documents documents{c.ends, ends_there};
  const Tensor qkv_there = send(qkv), dout_there = send(dout);
  const Tensor out = place({tokens, width}, qkv.scalar_type(), 8);
  const Tensor lse = place({c.heads.num_heads, tokens}, at::kFloat);
  const Tensor dqkv = place({tokens, qkv.size(1)}, qkv.scalar_type(), 8);
  ops::attention(out, lse, qkv_there, documents, c.heads, c.window);
  ops::attention_backward(dqkv, dout_there, out, lse, qkv_there, documents, c.heads, c.window);
  return {fetch(out), fetch(lse), fetch(dqkv)};
}

TEST_P(DeviceParity, AttentionOverDocumentsAndItsGradient) {
  for (const Attention& c : kAttentions) {
    SCOPED_TRACE(testing::Message() << c.heads.num_heads << " heads of " << c.heads.head_dim << ", window "
                                    << c.window);
    const int64_t tokens = c.ends.back();
    const Tensor qkv = normal({tokens, (c.heads.num_heads + 2 * c.heads.num_kv_heads) * c.heads.head_dim}, dtype());
    const Tensor dout = normal({tokens, c.heads.num_heads * c.heads.head_dim}, dtype());
    const ops::Documents documents{c.ends, {}};
    const auto defined = [&](at::ScalarType type) {
      return ops::definition::attention(qkv.to(type), documents, c.heads, c.window);
    };
    const auto gradient = [&](at::ScalarType type) {
      return gradients(
          [&](const auto& in) { return ops::definition::attention(in[0], documents, c.heads, c.window).first; },
          {qkv.to(type)}, dout.to(type))[0];
    };
    const Attended ours = attend(c, qkv, dout);
    expect_close(ours.out, defined(dtype()).first, defined(at::kDouble).first);
    EXPECT_LE(relative_error(ours.lse, defined(at::kDouble).second), 1e-4);  // float32 sums of rounded products
    expect_close(ours.dqkv, gradient(dtype()), gradient(at::kDouble));
    for (int again = 0; again < 3; ++again) {
      const Attended repeated = attend(c, qkv, dout);
      EXPECT_TRUE(same_bits(repeated.out, ours.out) && same_bits(repeated.lse, ours.lse) &&
                  same_bits(repeated.dqkv, ours.dqkv));
    }
  }
}

}  // namespace
}  // namespace phi3tune::cuda::test
