#include "phi3tune/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "generate/counter.h"
#include "phi3tune/core/error.h"

namespace phi3tune::generate {
namespace {

struct Candidate {
  double score = 0.0;
  double weight = 0.0;  // exp(score - largest)
  int32_t token = 0;
};

double largest_of(std::span<const float> logits) {
  float largest = -std::numeric_limits<float>::infinity();
  bool finite = true;
  for (const float logit : logits) {
    finite = finite && std::isfinite(logit);
    largest = std::max(largest, logit);
  }
  if (logits.empty() || !finite) {
    throw NumericsError("generation: a logit is not finite: the weights, or the adapter's, are damaged or overflow");
  }
  return largest;
}

double log_sum(std::span<const float> logits, double largest) {
  double sum = 0.0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit) - largest);
  }
  return largest + std::log(sum);
}

// transformers' RepetitionPenaltyLogitsProcessor: each token that came before once, however often it came.
std::vector<float> penalised(std::span<const float> logits, std::span<const int32_t> context, double penalty) {
  std::vector<float> scores(logits.begin(), logits.end());
  const auto factor = static_cast<float>(penalty);
  for (const int32_t token : context) {
    const auto index = static_cast<size_t>(token);
    if (index < logits.size()) {
      scores[index] = logits[index] < 0.0F ? logits[index] * factor : logits[index] / factor;
    }
  }
  return scores;
}

int32_t likeliest(std::span<const float> scores) {  // the lowest id of several
  return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

// What top-k, top-p and min-p leave, each over what the one before left, in transformers' order; by id.
std::vector<Candidate> candidates(std::span<const float> scores, const config::SamplingOptions& options) {
  const double largest = static_cast<double>(*std::max_element(scores.begin(), scores.end())) / options.temperature;
  std::vector<Candidate> kept;
  kept.reserve(scores.size());
  for (size_t token = 0; token < scores.size(); ++token) {
    const double score = static_cast<double>(scores[token]) / options.temperature;
    kept.push_back({score, std::exp(score - largest), static_cast<int32_t>(token)});
  }
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.token < b.token;
  };
  if (options.top_k > 0 && static_cast<size_t>(options.top_k) < kept.size()) {
    const auto last = kept.begin() + static_cast<ptrdiff_t>(options.top_k - 1);
    std::nth_element(kept.begin(), last, kept.end(), likelier);
    const double least = last->score;
    std::erase_if(kept, [&](const Candidate& c) { return c.score < least; });  // equals of the last one stay
  }
  const auto total = [&] {
    double sum = 0.0;
    for (const auto& candidate : kept) {
      sum += candidate.weight;
    }
    return sum;
  };
  if (options.top_p < 1.0) {
    const double spare = (1.0 - options.top_p) * total();
    // Those that are in the tail whatever the order need no sorting: all of them together are no more than it.
    const double surely = spare / static_cast<double>(kept.size());
    double tail = 0.0;
    for (const auto& candidate : kept) {
      tail += candidate.weight < surely ? candidate.weight : 0.0;
    }
    std::erase_if(kept, [&](const Candidate& c) { return c.weight < surely; });
    std::sort(kept.begin(), kept.end(), likelier);
    while (kept.size() > 1 && tail + kept.back().weight <= spare) {
      tail += kept.back().weight;
      kept.pop_back();
    }
  }
  if (options.min_p > 0.0) {
    std::erase_if(kept, [&](const Candidate& c) { return c.weight < options.min_p; });  // the likeliest weighs 1
  }
  std::sort(kept.begin(), kept.end(), [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  return kept;
}

int32_t drawn(const std::vector<Candidate>& kept, double place) {
  double total = 0.0;
  for (const auto& candidate : kept) {
    total += candidate.weight;
  }
  double sum = 0.0;
  for (const auto& candidate : kept) {
    sum += candidate.weight;
    if (place * total < sum) {
      return candidate.token;
    }
  }
  return kept.back().token;
}

}  // namespace

Choice Sampler::choose(std::span<const float> logits, std::span<const int32_t> context, uint64_t stream,
                       uint64_t position) const {
  const double largest = largest_of(logits);
  std::vector<float> changed;
  auto scores = logits;
  if (options_.repetition_penalty != 1.0) {
    changed = penalised(logits, context, options_.repetition_penalty);
    scores = changed;
  }
  Choice choice;
  if (options_.temperature <= 0.0) {
    choice.token = likeliest(scores);
  } else {
    const uint64_t bits = mixed(stream_key(options_.seed, stream) + position);
    choice.token = drawn(candidates(scores, options_), unit_interval(bits));
  }
  choice.log_probability = static_cast<double>(logits[static_cast<size_t>(choice.token)]) - log_sum(logits, largest);
  return choice;
}

}  // namespace phi3tune::generate
