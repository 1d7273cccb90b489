// Sampling against transformers' processors (tests/parity/make_sampling_references.py).
#include "phi3tune/generate/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <string>

#include "phi3tune/core/error.h"
#include "phi3tune/io/json.h"

namespace phi3tune::generate {
namespace {

std::vector<io::Json> reference_rows() {
  std::ifstream file(std::string(PHI3TUNE_SOURCE_DIR) + "/tests/references/sampling.jsonl");
  std::vector<io::Json> rows;
  for (std::string line; std::getline(file, line);) {
    rows.push_back(io::Json::parse(line));
  }
  return rows;
}

config::SamplingOptions options_of(const io::Json& row) {
  config::SamplingOptions options;
  options.temperature = row["temperature"];
  options.top_k = row["top_k"];
  options.top_p = row["top_p"];
  options.min_p = row["min_p"];
  options.repetition_penalty = row["repetition_penalty"];
  return options;
}

TEST(Sampler, DrawsWhatTransformersLeavesAsOftenAsItSays) {
  constexpr int kDraws = 4000;
  const auto rows = reference_rows();
  ASSERT_EQ(rows.size(), 43U);
  for (size_t at = 0; at < rows.size(); ++at) {
    SCOPED_TRACE(at);
    const auto& row = rows[at];
    const Sampler sampler(options_of(row));
    const auto logits = row["logits"].get<std::vector<float>>();
    const auto context = row["context"].get<std::vector<int32_t>>();
    if (row.contains("greedy")) {
      const auto choice = sampler.choose(logits, context, 0, 0);
      EXPECT_EQ(choice.token, row["greedy"].get<int32_t>());
      EXPECT_NEAR(choice.log_probability, row["log_probabilities"][static_cast<size_t>(choice.token)].get<double>(),
                  1e-12);
      continue;
    }
    std::vector<int> counts(logits.size());
    for (int draw = 0; draw < kDraws; ++draw) {
      const auto choice = sampler.choose(logits, context, at, static_cast<uint64_t>(draw));
      ++counts[static_cast<size_t>(choice.token)];
      ASSERT_NEAR(choice.log_probability, row["log_probabilities"][static_cast<size_t>(choice.token)].get<double>(),
                  1e-12);
    }
    for (size_t token = 0; token < counts.size(); ++token) {
      const double wanted = row["probabilities"][token];
      if (wanted == 0.0) {
        ASSERT_EQ(counts[token], 0) << "token " << token << " is filtered out";
      }
      // Five deviations of a binomial count, and one draw of slack for the rarest.
      ASSERT_NEAR(counts[token], wanted * kDraws, 5.0 * std::sqrt(wanted * (1.0 - wanted) * kDraws) + 1.0)
          << "token " << token;
    }
  }
}

TEST(Sampler, TheLowestIdIsTakenOfEqualLogits) {
  const std::vector<float> logits{0.5F, 2.0F, -1.0F, 2.0F, 2.0F};
  EXPECT_EQ(Sampler({}).choose(logits, {}, 3, 9).token, 1);
}

TEST(Sampler, ADrawIsAFunctionOfSeedStreamAndPosition) {
  const std::vector<float> logits(1000, 0.0F);
  config::SamplingOptions options;
  options.temperature = 1.0;
  const auto token = [&](uint64_t seed, uint64_t stream, uint64_t position) {
    options.seed = seed;
    return Sampler(options).choose(logits, {}, stream, position).token;
  };
  EXPECT_EQ(token(1, 2, 3), token(1, 2, 3));
  std::set<int32_t> tokens;
  for (uint64_t i = 0; i < 20; ++i) {
    tokens.insert(token(1, 2, 3 + i));
    tokens.insert(token(1, 3 + i, 3));
    tokens.insert(token(2 + i, 2, 3));
  }
  EXPECT_GT(tokens.size(), 50U);  // 60 draws of 1000: 58 differ on average
}

TEST(Sampler, ALogitThatIsNotFiniteIsRefused) {
  std::vector<float> logits{0.0F, 1.0F};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    logits[0] = bad;
    EXPECT_THROW((void)Sampler({}).choose(logits, {}, 0, 0), NumericsError);
  }
}

}  // namespace
}  // namespace phi3tune::generate
