// Matrices of more than 2^31 elements: a row beyond them has the bits it has in a matrix of its own. 32-bit offsets
// survive every smaller test. On the host the matrix is a small one, so only the comparison itself is shown there.
#include <algorithm>

#include "kernel_test.h"
#include "kernels.h"

namespace phi3tune::kernels {
namespace {

using namespace kernel_test;

constexpr int64_t kOwn = 3;  // rows at the end that are looked at

// Rows of `width` elements: the last kOwn of them begin beyond element 2^31, or there are a few.
constexpr int64_t rows_of(int64_t width) { return kOnDevice ? (int64_t{1} << 31) / width + 1 + kOwn : 8 + kOwn; }
constexpr int64_t width_of(int64_t width) { return kOnDevice ? width : width / 64; }

bool has_room(size_t bytes) {
#if defined(CUDA_ON_HOST)
  return bytes > 0;
#else
  size_t free = 0, total = 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess && free > bytes + (size_t{1} << 28);
#endif
}

#define SKIP_WITHOUT(bytes) \
  if (!has_room(bytes)) GTEST_SKIP() << "wants " << ((bytes) >> 20) << " MiB of free device memory"

// A matrix of which only the last kOwn rows are given and looked at. On a device the others are NaN, on the host 0:
// there the checked build wants every byte written that is read.
template <class T>
class Tall {
 public:
  Tall(int64_t all, int64_t width)
      : before_(static_cast<size_t>((all - kOwn) * width)),
        size_(static_cast<size_t>(kOwn * width)),
        memory_((before_ + size_) * sizeof(T)) {}
  Tall(int64_t all, int64_t width, const std::vector<T>& end) : Tall(all, width) {
#if defined(CUDA_ON_HOST)
    std::vector<T> every(before_ + size_);
    std::copy(end.begin(), end.end(), every.begin() + static_cast<std::ptrdiff_t>(before_));
    memory_.upload(every.data());
#else
    EXPECT_EQ(cudaMemcpy(begin() + before_, end.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
#endif
  }
  T* begin() const { return static_cast<T*>(memory_.data()); }
  std::vector<T> end() const {
#if defined(CUDA_ON_HOST)
    std::vector<T> every(before_ + size_);
    memory_.download(every.data());
    return {every.begin() + static_cast<std::ptrdiff_t>(before_), every.end()};
#else
    std::vector<T> rows(size_);
    EXPECT_EQ(cudaMemcpy(rows.data(), begin() + before_, size_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return rows;
#endif
  }

 private:
  size_t before_, size_;
  Memory memory_;
};

std::vector<bf16> random_rows(int64_t width, unsigned seed) {
  return random_values<bf16>(static_cast<size_t>(kOwn * width), 2.0, seed);
}

TEST(BeyondInt32, RmsNorm) {
  const int64_t d = width_of(3072), all = rows_of(d);
  SKIP_WITHOUT(static_cast<size_t>(all * d) * 4);
  const auto x = random_rows(d, 1);
  const Buffer<bf16> weight(random_values<bf16>(static_cast<size_t>(d), 1.0, 2));
  const auto norm = [&](int64_t rows) {
    const Tall<bf16> in(rows, d, x), out(rows, d);
    const Tall<float> rstd(rows, 1);
    EXPECT_EQ(rms_norm(out.begin(), d, rstd.begin(), in.begin(), d, weight.data(), rows, d, 1e-5F, nullptr),
              cudaSuccess);
    return out.end();
  };
  expect_bits(norm(all), norm(kOwn));
}

TEST(BeyondInt32, RmsNormBackward) {
  const int64_t d = width_of(3072), all = rows_of(d);
  SKIP_WITHOUT(static_cast<size_t>(all * d) * 6);
  const auto x = random_rows(d, 1), dy = random_rows(d, 2), dx = random_rows(d, 3);
  const Buffer<bf16> weight(random_values<bf16>(static_cast<size_t>(d), 1.0, 4));
  const auto back = [&](int64_t rows) {
    const Tall<bf16> in(rows, d, x), up(rows, d, dy), out(rows, d, dx);
    const Tall<float> rstd(rows, 1, std::vector<float>(kOwn, 0.5F));
    EXPECT_EQ(
        rms_norm_backward(out.begin(), d, up.begin(), d, in.begin(), d, rstd.begin(), weight.data(), rows, d, nullptr),
        cudaSuccess);
    return out.end();
  };
  expect_bits(back(all), back(kOwn));
}

TEST(BeyondInt32, Rope) {
  const int64_t head = 64, heads = width_of(12288) / head, width = heads * head, all = rows_of(width);
  SKIP_WITHOUT(static_cast<size_t>(all * width) * 2);
  const auto x = random_rows(width, 1);
  const auto cosine = random_values<float>(kOwn * head / 2, 1.0, 2),
             sine = random_values<float>(kOwn * head / 2, 1.0, 3);
  const auto turn = [&](int64_t rows) {
    const Tall<bf16> qkv(rows, width, x);
    const Tall<float> c(rows, head / 2, cosine), s(rows, head / 2, sine);
    EXPECT_EQ(rope(qkv.begin(), width, c.begin(), s.begin(), rows, static_cast<int>(heads), head, head, false, nullptr),
              cudaSuccess);
    return qkv.end();
  };
  expect_bits(turn(all), turn(kOwn));
}

TEST(BeyondInt32, SwigluThereAndBack) {
  const int64_t f = width_of(8192), all = rows_of(2 * f);
  SKIP_WITHOUT(static_cast<size_t>(all * f) * 8);
  const auto gate_up = random_rows(2 * f, 1), d_hidden = random_rows(f, 2);
  const auto there = [&](int64_t rows) {
    const Tall<bf16> in(rows, 2 * f, gate_up), out(rows, f);
    EXPECT_EQ(swiglu(out.begin(), f, in.begin(), 2 * f, rows, f, nullptr), cudaSuccess);
    return out.end();
  };
  expect_bits(there(all), there(kOwn));
  const auto back = [&](int64_t rows) {
    const Tall<bf16> in(rows, 2 * f, gate_up), up(rows, f, d_hidden);
    EXPECT_EQ(swiglu_backward(in.begin(), 2 * f, up.begin(), f, up.begin(), f, in.begin(), 2 * f, rows, f, nullptr),
              cudaSuccess);
    return std::tuple(in.end(), up.end());
  };
  const auto tall = back(all), own = back(kOwn);
  expect_bits(std::get<0>(tall), std::get<0>(own));
  expect_bits(std::get<1>(tall), std::get<1>(own));
}

TEST(BeyondInt32, CrossEntropy) {
  const int64_t v = width_of(32064), all = rows_of(v);
  SKIP_WITHOUT(static_cast<size_t>(all * v) * 2);
  const auto values = random_rows(v, 1);
  const std::vector<int64_t> targets{v - 1, 0, v / 2};
  const auto differentiate = [&](int64_t rows) {
    std::vector<int64_t> every(static_cast<size_t>(rows), 0);
    std::copy(targets.begin(), targets.end(), every.end() - kOwn);
    const Tall<bf16> logits(rows, v, values);
    const Tall<float> loss(rows, 1), correct(rows, 1);
    const Buffer<int64_t> labels(every);
    const Buffer<float> weights(std::vector<float>(static_cast<size_t>(rows), 1.0F));
    EXPECT_EQ(cross_entropy(loss.begin(), correct.begin(), logits.begin(), v, labels.data(), weights.data(), 0.5, true,
                            rows, v, nullptr),
              cudaSuccess);
    return std::tuple(loss.end(), logits.end());
  };
  const auto tall = differentiate(all), own = differentiate(kOwn);
  expect_bits(std::get<0>(tall), std::get<0>(own));
  expect_bits(std::get<1>(tall), std::get<1>(own));
}

TEST(BeyondInt32, RowsAreGatheredAddedAndConverted) {
  const int64_t d = width_of(8192), all = rows_of(d);
  SKIP_WITHOUT(static_cast<size_t>(all * d) * 8);
  const auto table = random_rows(d, 1);
  const Buffer<bf16> source(table);
  std::vector<int64_t> ids(static_cast<size_t>(all), 0);
  for (int64_t row = 0; row < kOwn; ++row) ids[static_cast<size_t>(all - kOwn + row)] = kOwn - 1 - row;
  const Buffer<int64_t> places(ids);
  const Tall<bf16> out(all, d);
  ASSERT_EQ(gather_rows(out.begin(), d, source.data(), d, places.data(), all, d, nullptr), cudaSuccess);
  std::vector<bf16> wanted;
  for (int64_t row = kOwn - 1; row >= 0; --row)
    wanted.insert(wanted.end(), table.begin() + row * d, table.begin() + (row + 1) * d);
  expect_bits(out.end(), wanted);
  ASSERT_EQ(add(out.begin(), d, out.begin(), d, out.begin(), d, all, d, nullptr), cudaSuccess);
  std::vector<float> twice;
  for (auto& value : wanted) {
    twice.push_back(2 * __bfloat162float(value));
    value = __float2bfloat16_rn(twice.back());
  }
  expect_bits(out.end(), wanted);
  const Tall<float> wide(all, d);
  ASSERT_EQ(convert(wide.begin(), d, out.begin(), d, all, d, 1.0F, nullptr), cudaSuccess);
  expect_bits(wide.end(), twice);
}

// Every block has its own scale, and the blocks of the last rows have others than the rest.
TEST(BeyondInt32, Nf4Dequantize) {
  const int64_t d = width_of(8192), all = rows_of(d);
  SKIP_WITHOUT(static_cast<size_t>(all * d) * 3);
  constexpr int kBlock = 64;
  const auto codes = random_integers<uint8_t>(static_cast<size_t>(kOwn * d / 2), 0, 255, 1);
  const auto scales = random_values<float>(static_cast<size_t>(kOwn * d / kBlock), 1.0, 2);
  const Buffer<float> code_values(random_values<float>(16, 1.0, 3));
  const auto restore = [&](int64_t rows) {
    const Tall<uint8_t> packed(rows, d / 2, codes);
    const Tall<float> absmax(rows, d / kBlock, scales);
    const Tall<bf16> out(rows, d);
    Nf4View view{};
    view.codes = packed.begin();
    view.code_values = code_values.data();
    view.block_size = kBlock;
    view.absmax = absmax.begin();
    view.rows = rows;
    view.cols = d;
    view.source = Source::kBfloat16;
    EXPECT_EQ(nf4_dequantize(out.begin(), d, view, nullptr), cudaSuccess);
    return out.end();
  };
  expect_bits(restore(all), restore(kOwn));
}

}  // namespace
}  // namespace phi3tune::kernels
