#include "data/split.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace phi3tune::data {
namespace {

bool before(const Hash128& a, const Hash128& b) { return std::tie(a.high, a.low) < std::tie(b.high, b.low); }

}  // namespace

std::vector<bool> held_out(const std::vector<Hash128>& records, double size) {
  std::vector<bool> out(records.size(), false);
  if (!(size > 0.0) || records.empty()) {
    return out;
  }
  if (size < 1.0) {
    for (size_t i = 0; i < records.size(); ++i) {
      out[i] = std::ldexp(static_cast<double>(records[i].high), -64) < size;
    }
    return out;
  }
  const auto count = static_cast<size_t>(std::min(size, static_cast<double>(records.size())));
  std::vector<Hash128> sorted = records;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count) - 1, sorted.end(), before);
  const Hash128 last = sorted[count - 1];
  for (size_t i = 0; i < records.size(); ++i) {
    out[i] = !before(last, records[i]);
  }
  return out;
}

}  // namespace phi3tune::data
