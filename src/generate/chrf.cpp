// sacrebleu's chrF2 (Popovic 2015): F over runs of characters, recall weighing four times (beta 2).
#include <algorithm>
#include <string>
#include <unordered_map>

#include "generate/python_text.h"
#include "phi3tune/core/text.h"
#include "phi3tune/generate/answer_metrics.h"

namespace phi3tune::generate {
namespace {

constexpr int kOrders = 6;
constexpr double kBetaSquared = 4.0;

// Byte offsets of the characters, and the end.
std::vector<size_t> boundaries(std::string_view text) {
  std::vector<size_t> places;
  for (size_t at = 0; at < text.size(); (void)next_code_point(text, at)) {
    places.push_back(at);
  }
  places.push_back(text.size());
  return places;
}

// Views into the text.
using Counts = std::unordered_map<std::string_view, int64_t>;
Counts count_runs(std::string_view text, const std::vector<size_t>& places, size_t length) {
  Counts counts;
  for (size_t begin = 0; begin + length < places.size(); ++begin) {
    ++counts[text.substr(places[begin], places[begin + length] - places[begin])];
  }
  return counts;
}

int64_t sum_of(const Counts& counts) {
  int64_t sum = 0;
  for (const auto& [run, count] : counts) {
    sum += count;
  }
  return sum;
}

}  // namespace

ChrfCounts& ChrfCounts::operator+=(const ChrfCounts& other) {
  for (int n = 0; n < kOrders; ++n) {
    answer[n] += other.answer[n];
    reference[n] += other.reference[n];
    matched[n] += other.matched[n];
  }
  return *this;
}

ChrfCounts chrf_counts(std::string_view answer, std::string_view reference) {
  const auto answer_text = join(split(answer), "");
  const auto reference_text = join(split(reference), "");
  const auto answer_places = boundaries(answer_text);
  const auto reference_places = boundaries(reference_text);
  ChrfCounts counts;
  for (int n = 0; n < kOrders; ++n) {
    const auto wanted = count_runs(reference_text, reference_places, static_cast<size_t>(n) + 1);
    const auto found = count_runs(answer_text, answer_places, static_cast<size_t>(n) + 1);
    counts.reference[n] = sum_of(wanted);
    // Runs longer than the reference are not held against the answer.
    counts.answer[n] = wanted.empty() ? 0 : sum_of(found);
    for (const auto& [run, count] : found) {
      const auto there = wanted.find(run);
      counts.matched[n] += there == wanted.end() ? 0 : std::min(count, there->second);
    }
  }
  return counts;
}

double chrf(const ChrfCounts& counts) {
  double precision = 0.0;
  double recall = 0.0;
  int orders = 0;
  for (int n = 0; n < kOrders; ++n) {
    if (counts.answer[n] > 0 && counts.reference[n] > 0) {
      precision += static_cast<double>(counts.matched[n]) / static_cast<double>(counts.answer[n]);
      recall += static_cast<double>(counts.matched[n]) / static_cast<double>(counts.reference[n]);
      ++orders;
    }
  }
  if (orders == 0 || !(precision + recall > 0.0)) {
    return 0.0;
  }
  precision /= orders;
  recall /= orders;
  return 100.0 * (1.0 + kBetaSquared) * precision * recall / (kBetaSquared * precision + recall);
}

}  // namespace phi3tune::generate
