#include "cuda/device/algorithms.h"

#include <fmt/format.h>

#include <limits>
#include <map>
#include <sstream>

#include "cuda/calls.h"
#include "phi3tune/core/log.h"
#include "phi3tune/cuda/counters.h"

namespace phi3tune::cuda {
namespace {

constexpr int kTimedRuns = 5;
constexpr size_t kMostScratch = size_t{256} << 20;

std::map<ProductKey, cublasLtMatmulAlgo_t> chosen;

// A result to throw away: a product that adds must not add twice. Null where c itself may be written again.
class Scratch {
 public:
  explicit Scratch(size_t bytes) {
    if (bytes > 0 && cudaMalloc(&memory_, bytes) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      memory_ = nullptr;
    }
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { static_cast<void>(cudaFree(memory_)); }
  void* get() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

class Stopwatch {
 public:
  explicit Stopwatch(cudaStream_t stream) : stream_(stream) {
    succeeded("timing", cudaEventCreate(&begin_));
    succeeded("timing", cudaEventCreate(&end_));
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    static_cast<void>(cudaEventDestroy(begin_));
    static_cast<void>(cudaEventDestroy(end_));
  }
  void start() { succeeded("timing", cudaEventRecord(begin_, stream_)); }
  float milliseconds() {
    float time = 0;
    succeeded("timing", cudaEventRecord(end_, stream_));
    succeeded("timing", cudaEventSynchronize(end_));
    succeeded("timing", cudaEventElapsedTime(&time, begin_, end_));
    return time;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

cublasLtMatmulAlgo_t timed_choice(const Product& product, cudaStream_t stream) {
  std::array<cublasLtMatmulHeuristicResult_t, 8> candidates;
  const int count = product.heuristics(candidates);
  if (count == 1 || (product.adds() && product.result_bytes() > kMostScratch)) {
    return candidates[0].algo;
  }
  const Scratch scratch(product.adds() ? product.result_bytes() : 0);
  if (product.adds() && scratch.get() == nullptr) {
    return candidates[0].algo;
  }
  ++counters().tunings;
  Stopwatch watch(stream);
  float best = std::numeric_limits<float>::infinity();
  int winner = 0;
  for (int i = 0; i < count; ++i) {
    const auto& algorithm = candidates[static_cast<size_t>(i)].algo;
    if (product.run(algorithm, stream, scratch.get()) != CUBLAS_STATUS_SUCCESS) {  // also the warm-up
      continue;
    }
    watch.start();
    for (int run = 0; run < kTimedRuns; ++run) {
      product.check(product.run(algorithm, stream, scratch.get()));
    }
    const float time = watch.milliseconds();
    if (time < best) {
      best = time;
      winner = i;
    }
  }
  return candidates[static_cast<size_t>(winner)].algo;
}

}  // namespace

cublasLtMatmulAlgo_t first_candidate(const Product& product) {
  std::array<cublasLtMatmulHeuristicResult_t, 8> candidates;
  product.heuristics(candidates);
  return candidates[0].algo;
}

const cublasLtMatmulAlgo_t& algorithm_for(const Product& product, cudaStream_t stream) {
  const auto found = chosen.find(product.key());
  return found != chosen.end() ? found->second
                               : chosen.emplace(product.key(), timed_choice(product, stream)).first->second;
}

std::string algorithms_text() {
  std::string text = fmt::format("cuBLASLt {}\n", cublasLtGetVersion());
  for (const auto& [key, algorithm] : chosen) {
    for (const int64_t part : key) {
      text += fmt::format("{} ", part);
    }
    for (const uint64_t word : algorithm.data) {
      text += fmt::format(" {:x}", word);
    }
    text += "\n";
  }
  return text;
}

void restore_algorithms(std::string_view text) {
  std::istringstream lines{std::string(text)};
  std::string line;
  std::getline(lines, line);
  if (line != fmt::format("cuBLASLt {}", cublasLtGetVersion())) {
    log_warning(
        "the algorithms of the run so far are of \"{}\", this is {}: products are timed again and may round "
        "differently",
        line, cublasLtGetVersion());
    return;
  }
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    ProductKey key;
    cublasLtMatmulAlgo_t algorithm;
    for (int64_t& part : key) {
      words >> part;
    }
    words >> std::hex;
    for (uint64_t& word : algorithm.data) {
      words >> word;
    }
    if (words) {
      chosen.insert_or_assign(key, algorithm);
    }
  }
}

}  // namespace phi3tune::cuda
