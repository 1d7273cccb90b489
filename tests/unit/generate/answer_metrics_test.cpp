// Pairs scored by rouge_score, sacrebleu and SQuAD's formulas: tests/parity/make_answer_references.py.
#include "phi3tune/generate/answer_metrics.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "phi3tune/io/json.h"

namespace phi3tune::generate {
namespace {

constexpr size_t kPairs = 45;
constexpr double kTolerance = 1e-11;  // of 100: sums in another order

std::vector<io::Json> references() {
  std::ifstream file(PHI3TUNE_SOURCE_DIR "/tests/references/answer_metrics.jsonl");
  std::vector<io::Json> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(io::Json::parse(line));
  }
  EXPECT_EQ(lines.size(), kPairs + 1);
  return lines;
}

struct Pairs {
  std::vector<std::string> answers, references;
  std::vector<BleuCounts> bleu;
  std::vector<ChrfCounts> chrf;
  std::vector<double> f1;
  io::Json whole;
};

Pairs read_pairs() {
  Pairs pairs;
  auto lines = references();
  pairs.whole = lines.back();
  lines.pop_back();
  for (const auto& line : lines) {
    const std::string answer = line.at("answer");
    const std::string reference = line.at("reference");
    pairs.bleu.push_back(bleu_counts(answer, reference));
    pairs.chrf.push_back(chrf_counts(answer, reference));
    pairs.f1.push_back(token_f1(answer, reference));
  }
  return pairs;
}

TEST(AnswerMetrics, ScoresOfEachPairAreThoseOfTheLibraries) {
  auto lines = references();
  lines.pop_back();
  for (const auto& line : lines) {
    const std::string answer = line.at("answer");
    const std::string reference = line.at("reference");
    SCOPED_TRACE(line.dump());
    EXPECT_EQ(normalized_answer(answer), line.at("normalized").get<std::string>());
    EXPECT_EQ(exact_match(answer, reference), line.at("exact_match").get<double>());
    EXPECT_NEAR(token_f1(answer, reference), line.at("f1").get<double>(), kTolerance);
    EXPECT_NEAR(rouge_l(answer, reference), line.at("rouge_l").get<double>(), kTolerance);
    EXPECT_NEAR(bleu(bleu_counts(answer, reference)), line.at("bleu").get<double>(), kTolerance);
    EXPECT_NEAR(sentence_bleu(bleu_counts(answer, reference)), line.at("sentence_bleu").get<double>(), kTolerance);
    EXPECT_NEAR(chrf(chrf_counts(answer, reference)), line.at("chrf").get<double>(), kTolerance);
  }
}

TEST(AnswerMetrics, CountsOfBleuAreSacrebleus) {
  auto lines = references();
  lines.pop_back();
  for (const auto& line : lines) {
    const auto counts = bleu_counts(line.at("answer").get<std::string>(), line.at("reference").get<std::string>());
    std::vector<int64_t> all(counts.correct, counts.correct + 4);
    all.insert(all.end(), counts.total, counts.total + 4);
    all.insert(all.end(), {counts.answer_length, counts.reference_length});
    EXPECT_EQ(all, line.at("bleu_counts").get<std::vector<int64_t>>()) << line.dump();
  }
}

TEST(AnswerMetrics, CorpusScoresFollowFromTheSums) {
  const auto pairs = read_pairs();
  BleuCounts bleu_sum;
  ChrfCounts chrf_sum;
  for (size_t i = 0; i < kPairs; ++i) {
    bleu_sum += pairs.bleu[i];
    chrf_sum += pairs.chrf[i];
  }
  EXPECT_NEAR(bleu(bleu_sum), pairs.whole.at("bleu").get<double>(), kTolerance);
  EXPECT_NEAR(chrf(chrf_sum), pairs.whole.at("chrf").get<double>(), kTolerance);
}

void expect_interval(const Interval& ours, const io::Json& wanted) {
  EXPECT_NEAR(ours.value, wanted.at("value").get<double>(), kTolerance);
  EXPECT_NEAR(ours.low, wanted.at("low").get<double>(), kTolerance);
  EXPECT_NEAR(ours.high, wanted.at("high").get<double>(), kTolerance);
}

// sum(values) / sum(weights) of the rows drawn; no weights: each 1.
Interval mean_interval(const std::vector<double>& values, const std::vector<double>& weights, uint64_t seed,
                       int resamples) {
  const auto mean = [&](std::span<const size_t> rows) {
    double sum = 0.0, weight = 0.0;
    for (const size_t row : rows) {
      sum += values[row];
      weight += weights.empty() ? 1.0 : weights[row];
    }
    return sum / weight;
  };
  return bootstrap(values.size(), mean, seed, resamples);
}

template <typename Counts>
ScoreOfRows corpus(const std::vector<Counts>& counts, double (*score)(const Counts&)) {
  return [&counts, score](std::span<const size_t> rows) {
    Counts sum;
    for (const size_t row : rows) {
      sum += counts[row];
    }
    return score(sum);
  };
}

TEST(Bootstrap, IntervalsAreNumpysPercentilesOfTheSameDraws) {
  const auto pairs = read_pairs();
  const uint64_t seed = pairs.whole.at("seed");
  const int resamples = pairs.whole.at("resamples");
  const std::vector<double> weights = pairs.whole.at("weights");
  expect_interval(mean_interval(pairs.f1, {}, seed, resamples), pairs.whole.at("mean"));
  expect_interval(mean_interval(pairs.f1, weights, seed, resamples), pairs.whole.at("weighted"));
  expect_interval(bootstrap(kPairs, corpus(pairs.bleu, bleu), seed, resamples), pairs.whole.at("bleu_interval"));
  expect_interval(bootstrap(kPairs, corpus(pairs.chrf, chrf), seed, resamples), pairs.whole.at("chrf_interval"));
}

TEST(Bootstrap, ADifferenceOfPairedRowsIsTheSameInEveryDraw) {
  const std::vector<double> base{0.1, 0.9, 0.3, 0.5};
  const auto shifted = bootstrap(
      base.size(),
      [&](std::span<const size_t> rows) {
        double sum = 0.0;
        for (const size_t row : rows) {
          sum += (base[row] + 0.25) - base[row];
        }
        return sum / static_cast<double>(rows.size());
      },
      42);
  EXPECT_NEAR(shifted.value, 0.25, 1e-15);
  EXPECT_NEAR(shifted.low, 0.25, 1e-15);
  EXPECT_NEAR(shifted.high, 0.25, 1e-15);
}

TEST(Bootstrap, OneRowHasAnIntervalOfNoWidth) {
  const auto interval = bootstrap(
      1, [](std::span<const size_t>) { return 0.5; }, 1);
  EXPECT_EQ(interval.low, 0.5);
  EXPECT_EQ(interval.high, 0.5);
}

}  // namespace
}  // namespace phi3tune::generate
