#include <algorithm>
#include <cmath>

#include "generate/counter.h"
#include "phi3tune/core/error.h"
#include "phi3tune/generate/answer_metrics.h"

namespace phi3tune::generate {
namespace {

// Below `count`: draw number `draw` of resample number `resample`.
size_t drawn(uint64_t seed, uint64_t resample, uint64_t draw, size_t count) {
  const uint64_t key = stream_key(seed, resample);
  return static_cast<size_t>((static_cast<unsigned __int128>(mixed(key + draw)) * count) >> 64);
}

// numpy.percentile's default: linear between the two nearest.
double percentile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - static_cast<double>(below));
}

}  // namespace

Interval bootstrap(size_t rows, const ScoreOfRows& score, uint64_t seed, int resamples) {
  require(rows > 0 && resamples > 0, "a bootstrap of no rows");
  std::vector<size_t> indices(rows);
  for (size_t row = 0; row < rows; ++row) {
    indices[row] = row;
  }
  Interval interval;
  interval.value = score(indices);
  std::vector<double> scores;
  scores.reserve(static_cast<size_t>(resamples));
  for (int resample = 0; resample < resamples; ++resample) {
    for (size_t draw = 0; draw < rows; ++draw) {
      indices[draw] = drawn(seed, static_cast<uint64_t>(resample), draw, rows);
    }
    const double value = score(indices);
    if (std::isfinite(value)) {  // only rows without weight were drawn: no score
      scores.push_back(value);
    }
  }
  std::sort(scores.begin(), scores.end());
  interval.low = scores.empty() ? interval.value : percentile(scores, 0.025);
  interval.high = scores.empty() ? interval.value : percentile(scores, 0.975);
  return interval;
}

}  // namespace phi3tune::generate
