// Noise on rows of documents, by the document's own stream; rows are few and the products behind them large, so this is
// plain code.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/dispatch.h"
#include "ops/philox.h"

namespace phi3tune::ops::cpu {
namespace {

template <typename T, typename W>
void add_noise_to(const at::Tensor& x, const Documents& documents, const NoiseKey& key) {
  const int64_t columns = x.size(1);
  const auto& ends = documents.cu_seqlens;
  at::parallel_for(0, x.size(0), row_grain(8 * columns), [&](int64_t begin, int64_t end) {
    auto next = std::upper_bound(ends.begin(), ends.end(), begin);  // the end of begin's document
    for (int64_t row = begin; row < end; ++next) {
      const auto document = static_cast<size_t>(next - ends.begin()) - 1;
      const Philox4 stream = dropout_stream(key, key.sample_ids[document]);
      const auto magnitude = static_cast<W>(noise_magnitude(key.alpha, *next - ends[document], columns));
      for (const int64_t stop = std::min<int64_t>(end, *next); row < stop; ++row) {
        const auto position = static_cast<uint32_t>(row - ends[document]);
        T* values = data<T>(x) + row * columns;
        for (int64_t column = 0; column < columns; column += 4) {
          const Philox4 words = philox4x32_10({static_cast<uint32_t>(column / 4), position, stream[2], stream[3]},
                                              {stream[0], stream[1]});
          for (int64_t i = column; i < std::min(columns, column + 4); ++i) {
            const auto unit = static_cast<W>(static_cast<int32_t>(words[static_cast<size_t>(i - column)])) *
                              static_cast<W>(0x1.0p-31);
            const W noise = magnitude * unit;
            values[i] = static_cast<T>(static_cast<W>(values[i]) + noise);
          }
        }
      }
    }
  });
}

}  // namespace

void add_noise(const at::Tensor& x, const Documents& documents, const NoiseKey& key) {
  switch (x.scalar_type()) {
    case at::kDouble:
      return add_noise_to<double, double>(x, documents, key);
    case at::kBFloat16:
      return add_noise_to<at::BFloat16, float>(x, documents, key);
    default:
      return add_noise_to<float, float>(x, documents, key);
  }
}

}  // namespace phi3tune::ops::cpu
