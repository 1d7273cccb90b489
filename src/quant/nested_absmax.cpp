#include "quant/nested_absmax.h"

#include <algorithm>
#include <cmath>

namespace phi3tune::quant {
namespace {

using Map = std::array<float, 256>;

// dQuantize of bitsandbytes' CUDA kernels: seven halvings, then the midpoint towards the neighbour on x's side. A NaN
// (0 times infinity, in a block whose absmax all equal the mean) is code 0.
uint8_t search_cuda(const Map& map, float x) {
  size_t pivot = 127;
  size_t upper_pivot = 255;
  size_t lower_pivot = 0;
  for (size_t step = 64; step > 0; step /= 2) {
    if (x > map[pivot]) {
      lower_pivot = pivot;
      pivot += step;
    } else {
      upper_pivot = pivot;
      pivot -= step;
    }
  }
  const float value = map[pivot];
  if (x > value) {
    return static_cast<uint8_t>(x > (map[upper_pivot] + value) * 0.5F ? upper_pivot : pivot);
  }
  return static_cast<uint8_t>(x < (map[lower_pivot] + value) * 0.5F ? lower_pivot : pivot);
}

// The table of bitsandbytes' CPU library (0.50.2), an entry at a time: [-1, 1] in 65536 bins, each with the number of
// midpoints of the map below it.
uint8_t search_lookup(const Map& map, float x) {
  const auto bin = static_cast<uint32_t>((std::clamp(x, -1.0F, 1.0F) + 1.0F) * 0.5F * 65535.0F + 0.5F);
  const float value = -1.0F + (2.0F * static_cast<float>(bin)) / 65535.0F;
  size_t low = 0;
  size_t high = 255;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (0.5F * (map[middle] + map[middle + 1]) < value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return static_cast<uint8_t>(low);
}

float mean_in_order(std::span<const float> values) {
  double sum = 0.0;
  for (const float value : values) {
    sum += static_cast<double>(value);
  }
  return static_cast<float>(sum / static_cast<double>(values.size()));
}

}  // namespace

void quantize_absmax(std::span<const float> absmax, NestedRule rule, const float* offset, Nf4Tensor& tensor) {
  tensor.offset = offset != nullptr ? *offset : mean_in_order(absmax);
  tensor.nested_map = signed_dynamic_map();
  tensor.nested_codes.resize(absmax.size());
  tensor.nested_absmax.clear();
  constexpr auto kBlock = static_cast<size_t>(kNestedBlock);
  for (size_t begin = 0; begin < absmax.size(); begin += kBlock) {
    const size_t end = std::min(begin + kBlock, absmax.size());
    float largest = 0.0F;
    for (size_t i = begin; i < end; ++i) {
      largest = std::max(largest, std::fabs(absmax[i] - tensor.offset));
    }
    tensor.nested_absmax.push_back(largest);
    const float inverse = 1.0F / largest;
    for (size_t i = begin; i < end; ++i) {
      const float x = (absmax[i] - tensor.offset) * inverse;
      if (rule == NestedRule::kCuda) {
        tensor.nested_codes[i] = search_cuda(tensor.nested_map, x);
      } else {
        tensor.nested_codes[i] = largest == 0.0F ? 0 : search_lookup(tensor.nested_map, x);
      }
    }
  }
}

}  // namespace phi3tune::quant
