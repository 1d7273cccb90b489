// From logits to the next token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "phi3tune/config/options.h"

namespace phi3tune::generate {

struct Choice {
  int32_t token = 0;
  double log_probability = 0.0;  // under softmax of the logits as the model gave them
};

class Sampler {
 public:
  explicit Sampler(const config::SamplingOptions& options) : options_(options) {}

  // logits [V]. context: every token so far, for the repetition penalty. The random number is a function of (seed,
  // stream, position) alone, so an answer does not depend on what is answered beside it. stream: which prompt;
  // position: which new token. Throws NumericsError when a logit is not finite.
  Choice choose(std::span<const float> logits, std::span<const int32_t> context, uint64_t stream,
                uint64_t position) const;

 private:
  config::SamplingOptions options_;
};

}  // namespace phi3tune::generate
