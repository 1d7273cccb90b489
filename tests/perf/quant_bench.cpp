// Time of NF4 for one decoder layer of Phi-3-mini: 113 M weights.
//
//   quant_bench [--benchmark_filter=...]      bytes_per_second counts what is read and written
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>

#include "phi3tune/quant/nf4.h"

namespace phi3tune::quant {
namespace {

struct Shape {
  int64_t rows;
  int64_t cols;
};
constexpr Shape kLayer[] = {{9216, 3072}, {3072, 3072}, {16384, 3072}, {3072, 8192}};

std::vector<std::byte> bf16_weights(int64_t count) {
  std::vector<std::byte> bytes(static_cast<size_t>(count) * 2);
  std::mt19937_64 random(1);
  for (size_t i = 0; i < bytes.size(); i += 8) {
    // Any mantissa and sign, exponents of 2^-8 to 2^-5.
    const uint64_t word = (random() & 0x81FF81FF81FF81FFULL) | 0x3C003C003C003C00ULL;
    std::memcpy(bytes.data() + i, &word, 8);
  }
  return bytes;
}

const std::vector<Nf4Tensor>& layer() {
  static const std::vector<Nf4Tensor> kTensors = [] {
    std::vector<Nf4Tensor> tensors;
    for (const Shape& shape : kLayer) {
      tensors.push_back(
          quantize_nf4(bf16_weights(shape.rows * shape.cols), FloatType::kBF16, shape.rows, shape.cols, {}));
    }
    return tensors;
  }();
  return kTensors;
}

void quantize(benchmark::State& state) {
  const Shape& shape = kLayer[3];
  const auto weights = bf16_weights(shape.rows * shape.cols);
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        quantize_nf4(weights, FloatType::kBF16, shape.rows, shape.cols, {}, nullptr, static_cast<int>(state.range(0))));
  }
  state.SetItemsProcessed(state.iterations() * shape.rows * shape.cols);
}
BENCHMARK(quantize)
    ->Name("quantize_3072x8192_bf16")
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(2)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

void dequantize(benchmark::State& state, const char* isa, FloatType target) {
  const char* before = dequantize_isa();
  if (!force_dequantize_isa(isa)) {
    state.SkipWithError("this processor has no such instructions");
    return;
  }
  const int64_t threads = state.range(0);
  int64_t elements = 0;
  int64_t bytes = 0;
  for (const Nf4Tensor& tensor : layer()) {
    elements += tensor.numel();
    bytes += static_cast<int64_t>(tensor.bytes());
  }
  const int64_t width = target == FloatType::kF32 ? 4 : 2;
  const std::unique_ptr<void, decltype(&std::free)> out(std::aligned_alloc(64, static_cast<size_t>(elements * width)),
                                                        std::free);
  std::memset(out.get(), 1, static_cast<size_t>(elements * width));  // its pages exist
  for (auto _ : state) {
    const auto work = [&](int64_t thread) {
      auto* to = static_cast<std::byte*>(out.get());
      for (const Nf4Tensor& tensor : layer()) {
        const int64_t begin = tensor.blocks() * thread / threads * tensor.block_size;
        const int64_t end = tensor.blocks() * (thread + 1) / threads * tensor.block_size;
        dequantize_nf4(tensor, begin, end, target, to + begin * width);
        to += tensor.numel() * width;
      }
    };
    std::vector<std::thread> others;
    for (int64_t thread = 1; thread < threads; ++thread) {
      others.emplace_back(work, thread);
    }
    work(0);
    for (std::thread& other : others) {
      other.join();
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * elements);
  state.SetBytesProcessed(state.iterations() * (bytes + elements * width));
  force_dequantize_isa(before);
}

#define DEQUANTIZE(isa, target)                                          \
  BENCHMARK_CAPTURE(dequantize, isa##_##target, #isa, FloatType::target) \
      ->ArgName("threads")                                               \
      ->Arg(1)                                                           \
      ->Arg(2)                                                           \
      ->UseRealTime()                                                    \
      ->Unit(benchmark::kMillisecond)
DEQUANTIZE(avx512, kBF16);
DEQUANTIZE(avx2, kBF16);
DEQUANTIZE(portable, kBF16);
DEQUANTIZE(avx512, kF32);
DEQUANTIZE(avx2, kF32);
DEQUANTIZE(portable, kF32);

}  // namespace
}  // namespace phi3tune::quant

BENCHMARK_MAIN();
