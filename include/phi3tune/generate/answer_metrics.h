// How near an answer is to its reference, by the definitions that are common: those of SQuAD, rouge_score and
// sacrebleu. All text is well-formed UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace phi3tune::generate {

// SQuAD's rule for English: lower case, no punctuation, no articles, single blanks.
std::string normalized_answer(std::string_view text);
// 1 where both are equal after that, else 0.
double exact_match(std::string_view answer, std::string_view reference);
// Harmonic mean of precision and recall over the words of both after that, counted as often as they come. Where one has
// no word, 1 if the other has none either (SQuAD 2.0).
double token_f1(std::string_view answer, std::string_view reference);
// rouge_score's rougeL F-measure, without stemming: words are runs of a-z0-9 after lower-casing.
double rouge_l(std::string_view answer, std::string_view reference);

// Sums over pairs, from which the corpus scores follow; those of several rows can be added.
struct BleuCounts {
  int64_t correct[4] = {};
  int64_t total[4] = {};
  int64_t answer_length = 0;
  int64_t reference_length = 0;
  BleuCounts& operator+=(const BleuCounts& other);
};
// sacrebleu's BLEU: tokenize 13a, smoothing exp, order 4, case kept.
BleuCounts bleu_counts(std::string_view answer, std::string_view reference);
double bleu(const BleuCounts& counts);  // 0 to 100
// As sacrebleu's sentence_bleu: only orders that the answer has runs of (effective order), so that a short one scores.
double sentence_bleu(const BleuCounts& counts);

struct ChrfCounts {
  int64_t answer[6] = {};
  int64_t reference[6] = {};
  int64_t matched[6] = {};
  ChrfCounts& operator+=(const ChrfCounts& other);
};
// sacrebleu's chrF2: character order 6, word order 0, beta 2, whitespace removed.
ChrfCounts chrf_counts(std::string_view answer, std::string_view reference);
double chrf(const ChrfCounts& counts);  // 0 to 100

// A score with its bootstrap interval over rows: percentiles 2.5 and 97.5 of the scores of `resamples` draws of as many
// rows, with replacement, from a counter-based stream of `seed`. The draws depend on (rows, seed) alone, so the score
// of a difference between two answers to the same rows is a paired one.
struct Interval {
  double value = 0.0;
  double low = 0.0;
  double high = 0.0;
};
// Of the rows with these indices, some of them several times; not finite: that draw is left out.
using ScoreOfRows = std::function<double(std::span<const size_t> indices)>;
Interval bootstrap(size_t rows, const ScoreOfRows& score, uint64_t seed, int resamples = 1000);

}  // namespace phi3tune::generate
