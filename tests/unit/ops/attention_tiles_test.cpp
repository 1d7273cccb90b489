// Attention by tiles, for every instruction set of its elementwise part. Processors without the matrix micro-kernels
// have nothing to test here.
#include "ops/cpu/attention_tiles.h"

#include <ATen/Parallel.h>

#include <limits>

#include "fixture.h"

namespace phi3tune::ops::test {
namespace {

constexpr HeadShape kHeads{4, 2, 32, 32};
constexpr int64_t kWidth = (4 + 2 * 2) * 32;
constexpr int64_t kOut = 4 * 32;

struct Result {
  at::Tensor out, lse, dqkv;
};

Result run(const at::Tensor& qkv, const at::Tensor& dout, const std::vector<int32_t>& ends, int64_t window) {
  const int64_t tokens = qkv.size(0);
  const Guarded out({tokens, kOut}, at::kBFloat16), lse({4, tokens}, at::kFloat), dqkv({tokens, kWidth}, at::kBFloat16);
  cpu::attention_tiles(out, lse, qkv, {ends}, kHeads, window);
  cpu::attention_backward_tiles(dqkv, dout, out, lse, qkv, {ends}, kHeads, window);
  EXPECT_TRUE(out.intact() && lse.intact() && dqkv.intact());
  return {out.tensor().clone(), lse.tensor().clone(), dqkv.tensor().clone()};
}

class AttentionTiles : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    before_ = cpu::kernels().isa;
    if (!cpu::has_attention_tiles(kHeads)) {
      GTEST_SKIP() << "this processor has no matrix micro-kernels for bfloat16";
    }
    if (!cpu::force_kernels(GetParam())) {
      GTEST_SKIP() << "this processor has no " << GetParam();
    }
    at::manual_seed(11);
  }
  void TearDown() override { cpu::force_kernels(before_); }

 private:
  const char* before_ = nullptr;
};

// Documents shorter than, as long as, and longer than a tile of 128; windows around its edges.
TEST_P(AttentionTiles, HoldToTheDefinition) {
  const std::vector<int32_t> ends{0, 1, 1, 130, 258, 300, 640};
  const at::Tensor qkv = normal({640, kWidth}, at::kBFloat16), dout = normal({640, kOut}, at::kBFloat16);
  for (const int64_t window : {0, 1, 100, 127, 128, 129, 300}) {
    SCOPED_TRACE(testing::Message() << "window " << window);
    const Result ours = run(qkv, dout, ends, window);
    const auto forward = [&](at::ScalarType t) { return definition::attention(qkv.to(t), {ends}, kHeads, window); };
    const auto backward = [&](at::ScalarType t) {
      return gradients([&](const auto& in) { return definition::attention(in[0], {ends}, kHeads, window).first; },
                       {qkv.to(t)}, dout.to(t))[0];
    };
    const auto [aten, aten_lse] = forward(at::kBFloat16);
    const auto [exact, exact_lse] = forward(at::kDouble);
    expect_close(ours.out, aten, exact);
    expect_close(ours.lse, aten_lse, exact_lse);
    expect_close(ours.dqkv, backward(at::kBFloat16), backward(at::kDouble));
  }
}

TEST_P(AttentionTiles, BitsDoNotDependOnTheThreads) {
  const std::vector<int32_t> ends{0, 200, 333};
  const at::Tensor qkv = normal({333, kWidth}, at::kBFloat16), dout = normal({333, kOut}, at::kBFloat16);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Result one = run(qkv, dout, ends, 150);
  at::set_num_threads(2);
  const Result two = run(qkv, dout, ends, 150);
  at::set_num_threads(before);
  EXPECT_TRUE(same_bits(one.out, two.out) && same_bits(one.lse, two.lse) && same_bits(one.dqkv, two.dqkv));
}

TEST_P(AttentionTiles, ScoresOfAnySizeAreSummedSafely) {
  const at::Tensor dout = normal({140, kOut}, at::kBFloat16);
  const at::Tensor qkv = normal({140, kWidth}, at::kBFloat16, 60.0);  // scores in the thousands
  const Result result = run(qkv, dout, {0, 140}, 0);
  EXPECT_TRUE(result.out.isfinite().all().item<bool>());
  EXPECT_TRUE(result.lse.isfinite().all().item<bool>());
  EXPECT_TRUE(result.dqkv.isfinite().all().item<bool>());
}

TEST_P(AttentionTiles, NotFiniteInputIsSeenInTheOutputOfItsDocumentOnly) {
  const at::Tensor dout = normal({150, kOut}, at::kBFloat16);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const at::Tensor qkv = normal({150, kWidth}, at::kBFloat16);
    qkv.narrow(0, 90, 1).fill_(bad);  // its place in the buffers is padding for the next, shorter document
    const Result result = run(qkv, dout, {0, 40, 110, 150}, 0);
    EXPECT_TRUE(result.out.narrow(0, 0, 40).isfinite().all().item<bool>());
    EXPECT_FALSE(result.out.narrow(0, 90, 20).isfinite().any().item<bool>());
    EXPECT_TRUE(result.out.narrow(0, 110, 40).isfinite().all().item<bool>());
    EXPECT_TRUE(result.dqkv.narrow(0, 0, 40).isfinite().all().item<bool>());
    EXPECT_FALSE(result.dqkv.narrow(0, 90, 1).isfinite().any().item<bool>());
    EXPECT_TRUE(result.dqkv.narrow(0, 110, 40).isfinite().all().item<bool>());
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, AttentionTiles, testing::Values("avx512", "avx2", "portable"),
                         [](const auto& parameters) { return std::string(parameters.param); });

}  // namespace
}  // namespace phi3tune::ops::test
