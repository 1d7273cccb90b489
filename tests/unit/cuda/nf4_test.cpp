#include "fixture.h"
#include "phi3tune/quant/nf4_layout.h"

namespace phi3tune::cuda::test {
namespace {

struct Case {
  int64_t rows, cols, block_size;
  bool double_quant;
  quant::FloatType source;
  at::ScalarType source_dtype;
};
const Case kCases[] = {{24, 64, 64, true, quant::FloatType::kBF16, at::kBFloat16},
                       {7, 192, 64, true, quant::FloatType::kF16, at::kHalf},
                       {300, 64, 64, true, quant::FloatType::kF32, at::kFloat},
                       {5, 96, 32, false, quant::FloatType::kBF16, at::kBFloat16},
                       {3, 128, 128, false, quant::FloatType::kF32, at::kFloat}};

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

template <typename T>
void expect_part(const Tensor& block, size_t offset, const T* values, size_t count, const char* name) {
  EXPECT_EQ(std::memcmp(static_cast<const std::byte*>(block.data_ptr()) + offset, values, count * sizeof(T)), 0)
      << name;
}

class Nf4 : public OnDevice {
 protected:
  struct Quantised {
    quant::Nf4Tensor on_host, shape;
    quant::Nf4Layout layout;
    Tensor block;
    int64_t bad;
  };
  static Quantised quantise(const Case& c, const Tensor& weights) {
    Quantised q;
    q.on_host = quant::quantize_nf4(bytes_of(weights), c.source, c.rows, c.cols,
                                    {.block_size = c.block_size, .double_quant = c.double_quant});
    q.shape.rows = c.rows;
    q.shape.cols = c.cols;
    q.shape.block_size = c.block_size;
    q.shape.double_quant = c.double_quant;
    q.shape.source = c.source;
    q.layout = quant::nf4_layout(c.rows, c.cols, c.block_size, c.double_quant);
    q.block = at::full({static_cast<int64_t>(q.layout.bytes)}, 0xAA, at::kByte);
    const Guarded absmax({q.on_host.blocks()}, at::kFloat);
    q.bad = ops::backend().quantize(q.block, absmax, weights, q.shape);
    EXPECT_TRUE(absmax.intact());
    return q;
  }
};

TEST_F(Nf4, BytesAreThoseOfTheHost) {
  for (const Case& c : kCases) {
    const auto q = quantise(c, normal({c.rows, c.cols}, c.source_dtype));
    EXPECT_EQ(q.bad, -1);
    expect_part(q.block, q.layout.codes, q.on_host.packed.data(), q.on_host.packed.size(), "codes");
    expect_part(q.block, q.layout.code_values, quant::kNf4Code.data(), 16, "code values");
    if (c.double_quant) {
      expect_part(q.block, q.layout.nested_codes, q.on_host.nested_codes.data(), q.on_host.nested_codes.size(),
                  "nested codes");
      expect_part(q.block, q.layout.nested_absmax, q.on_host.nested_absmax.data(), q.on_host.nested_absmax.size(),
                  "nested absmax");
      expect_part(q.block, q.layout.nested_map, quant::signed_dynamic_map().data(), 256, "nested map");
      expect_part(q.block, q.layout.offset, &q.on_host.offset, 1, "offset");
    } else {
      expect_part(q.block, q.layout.absmax, q.on_host.absmax.data(), q.on_host.absmax.size(), "absmax");
    }
  }
}

TEST_F(Nf4, DequantisedBitsAreThoseOfTheHostAndRowsMayBeApart) {
  for (const Case& c : kCases) {
    const auto q = quantise(c, normal({c.rows, c.cols}, c.source_dtype));
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      for (const int64_t room : {0, 16}) {
        const Tensor expected = at::empty({c.rows, c.cols}, dtype);
        quant::dequantize_nf4(q.on_host, 0, c.rows * c.cols,
                              dtype == at::kFloat ? quant::FloatType::kF32 : quant::FloatType::kBF16,
                              expected.data_ptr());
        const Spaced out({c.rows, c.cols}, dtype, room);
        ops::dequantize(out, q.shape, q.block);
        EXPECT_TRUE(same_bits(out, expected));
        EXPECT_TRUE(out.intact());
      }
    }
  }
}

TEST_F(Nf4, TheFirstWeightThatIsNotFiniteIsNamed) {
  const Case& c = kCases[2];
  const Tensor weights = normal({c.rows, c.cols}, c.source_dtype);
  quant::Nf4Tensor shape;
  shape.rows = c.rows;
  shape.cols = c.cols;
  const auto layout = quant::nf4_layout(c.rows, c.cols, 64, true);
  shape.source = c.source;
  weights.view(-1)[1000] = std::numeric_limits<double>::infinity();
  weights.view(-1)[1700] = std::numeric_limits<double>::quiet_NaN();
  const Tensor block = at::empty({static_cast<int64_t>(layout.bytes)}, at::kByte);
  EXPECT_EQ(ops::backend().quantize(block, at::empty({shape.blocks()}, at::kFloat), weights, shape), 1000);
}

TEST_F(Nf4, AWeightLeftInTheHostsMemoryIsABug) {
  const Case& c = kCases[0];
  const Tensor weights = normal({c.rows, c.cols}, c.source_dtype);
  const auto q = quantise(c, weights);
  EXPECT_THROW(ops::dequantize(at::empty({c.rows, c.cols}, at::kFloat), q.on_host, {}), InternalError);
}

}  // namespace
}  // namespace phi3tune::cuda::test
