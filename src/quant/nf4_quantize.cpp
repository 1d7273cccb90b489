#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <system_error>
#include <thread>

#include "phi3tune/core/error.h"
#include "phi3tune/quant/nf4.h"
#include "quant/float_bits.h"
#include "quant/nested_absmax.h"
#include "quant/nf4_encode.h"

namespace phi3tune::quant {
namespace {

constexpr int64_t kLargestBlock = 4096;
constexpr int64_t kBlocksAtATime = 2048;  // of a thread; large enough to be worth one

size_t width(FloatType type) { return type == FloatType::kF32 ? 4 : 2; }

void to_float(const std::byte* from, FloatType type, int64_t count, float* to) {
  if (type == FloatType::kF32) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint16_t word;
    std::memcpy(&word, from + 2 * i, sizeof(word));
    to[i] = type == FloatType::kBF16 ? bf16_to_float(word) : f16_to_float(word);
  }
}

// Calls work(begin, end) for pieces of [0, count) on `threads` threads, this one among them.
template <typename Work>
void in_parallel(int64_t count, int64_t piece, int threads, const Work& work) {
  std::atomic<int64_t> next{0};
  const auto drain = [&] {
    for (int64_t begin = next.fetch_add(piece); begin < count; begin = next.fetch_add(piece)) {
      work(begin, std::min(begin + piece, count));
    }
  };
  const int64_t useful = std::min<int64_t>(threads, (count + piece - 1) / piece);
  std::vector<std::thread> others;
  others.reserve(static_cast<size_t>(std::max<int64_t>(useful - 1, 0)));
  try {
    while (static_cast<int64_t>(others.size()) + 1 < useful) {
      others.emplace_back(drain);
    }
  } catch (const std::system_error&) {
    // No further thread is to be had: those that run share the work.
  }
  drain();
  for (std::thread& other : others) {
    other.join();
  }
}

// Absmax and codes of a whole tensor.
class Encoder {
 public:
  Encoder(const std::byte* weights, FloatType source, Nf4Tensor& tensor, std::vector<float>& absmax)
      : weights_(weights), source_(source), tensor_(tensor), absmax_(absmax) {}

  void encode(int64_t begin_block, int64_t end_block) {
    alignas(64) float values[kLargestBlock];
    uint8_t packed[kLargestBlock / 2];
    const int64_t size = tensor_.block_size;
    for (int64_t block = begin_block; block < end_block; ++block) {
      const int64_t first = block * size;
      const int64_t count = std::min(size, tensor_.numel() - first);
      to_float(weights_ + static_cast<size_t>(first) * width(source_), source_, count, values);
      std::fill(values + count, values + size, 0.0F);  // an odd last element is packed with the code of zero
      const uint32_t magnitude = largest_magnitude(values, count);
      if (magnitude >= kInfinity) {
        note_bad(first + first_bad(values, count));
        return;
      }
      const auto absmax = std::bit_cast<float>(magnitude);
      absmax_[static_cast<size_t>(block)] = absmax;
      uint8_t* to = tensor_.packed.data() + first / 2;
      encode_nf4(values, size, 1.0F / absmax, count == size ? to : packed);
      if (count != size) {
        std::memcpy(to, packed, static_cast<size_t>((count + 1) / 2));
      }
    }
  }

  // Element that is not finite, the first in memory; -1 if there is none.
  int64_t bad() const { return bad_ == kNone ? -1 : bad_.load(); }

 private:
  static constexpr uint32_t kInfinity = 0x7F800000U;
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

  static int64_t first_bad(const float* values, int64_t count) {
    return std::find_if(values, values + count,
                        [](float v) { return (std::bit_cast<uint32_t>(v) & 0x7FFFFFFFU) >= kInfinity; }) -
           values;
  }

  void note_bad(int64_t element) {
    int64_t known = bad_;
    while (element < known && !bad_.compare_exchange_weak(known, element)) {
    }
  }

  const std::byte* weights_;
  FloatType source_;
  Nf4Tensor& tensor_;
  std::vector<float>& absmax_;
  std::atomic<int64_t> bad_{kNone};
};

float element(const std::byte* weights, FloatType source, int64_t index) {
  float value;
  to_float(weights + static_cast<size_t>(index) * width(source), source, 1, &value);
  return value;
}

}  // namespace

size_t Nf4Tensor::bytes() const noexcept {
  return packed.size() + nested_codes.size() + (nested_absmax.size() + absmax.size()) * sizeof(float);
}

Nf4Tensor quantize_nf4(std::span<const std::byte> weights, FloatType source, int64_t rows, int64_t cols,
                       const Nf4Options& options, const float* offset, int threads) {
  require(rows > 0 && cols > 0 && rows <= std::numeric_limits<int64_t>::max() / cols, "an NF4 tensor has elements");
  require(weights.size() / width(source) == static_cast<size_t>(rows * cols) && weights.size() % width(source) == 0,
          "weights have rows * cols elements");
  require(options.block_size >= 32 && options.block_size <= kLargestBlock &&
              std::has_single_bit(static_cast<uint64_t>(options.block_size)),
          "an NF4 block is a power of two from 32 to 4096");

  Nf4Tensor tensor;
  tensor.rows = rows;
  tensor.cols = cols;
  tensor.block_size = options.block_size;
  tensor.source = source;
  tensor.double_quant = options.double_quant;
  tensor.code = kNf4Code;
  tensor.packed.resize(static_cast<size_t>((tensor.numel() + 1) / 2));
  std::vector<float> absmax(static_cast<size_t>(tensor.blocks()));

  Encoder encoder(weights.data(), source, tensor, absmax);
  const int all = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  in_parallel(tensor.blocks(), std::max<int64_t>(1, kBlocksAtATime * 64 / options.block_size),
              threads > 0 ? threads : all, [&](int64_t begin, int64_t end) { encoder.encode(begin, end); });
  if (encoder.bad() >= 0) {
    throw ModelError(
        "weight at row {}, column {} is {}: only finite weights can be quantised to 4 bits; the model file is damaged "
        "or was saved after a diverged training",
        encoder.bad() / cols, encoder.bad() % cols, element(weights.data(), source, encoder.bad()));
  }
  if (options.double_quant) {
    quantize_absmax(absmax, options.nested_rule, offset, tensor);
  } else {
    tensor.absmax = std::move(absmax);
  }
  return tensor;
}

}  // namespace phi3tune::quant
