// sacrebleu's BLEU (Post 2018): the tokenizer 13a of mteval and exponential smoothing.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>

#include "generate/python_text.h"
#include "phi3tune/generate/answer_metrics.h"

namespace phi3tune::generate {
namespace {

constexpr int kOrders = 4;

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_point(char c) { return c == '.' || c == ','; }
// [\{-\~\[-\` -\&\(-\+\:-\@\/]
bool stands_alone(char c) {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
         (c >= ':' && c <= '@') || c == '/';
}

// re.sub over pairs of characters: where `matches` says so, a pair gets blanks around it as the three texts say. Bytes
// serve as characters: all that is looked for is ASCII, and "not a digit" is true of every byte of the others.
template <typename Matches>
std::string space_pairs(std::string_view text, Matches matches, std::string_view before, std::string_view after) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (at + 1 < text.size() && matches(text[at], text[at + 1])) {
      out += before;
      out += text[at];
      out += ' ';
      out += text[at + 1];
      out += after;
      at += 2;
    } else {
      out += text[at++];
    }
  }
  return out;
}

std::string tokenize_13a(std::string_view line) {
  std::string text(strip_end(line));
  replace_all(text, "<skipped>", "");
  replace_all(text, "-\n", "");
  replace_all(text, "\n", " ");
  for (const auto& [name, character] : std::initializer_list<std::pair<const char*, const char*>>{
           {"&quot;", "\""}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}}) {
    replace_all(text, name, character);
  }
  std::string spaced = " ";
  for (const char c : text) {
    spaced += stands_alone(c) ? std::string{' ', c, ' '} : std::string{c};
  }
  spaced += ' ';
  spaced = space_pairs(
      spaced, [](char a, char b) { return !is_digit(a) && is_point(b); }, "", " ");
  spaced = space_pairs(
      spaced, [](char a, char b) { return is_point(a) && !is_digit(b); }, " ", "");
  return space_pairs(
      spaced, [](char a, char b) { return is_digit(a) && b == '-'; }, "", " ");
}

// The words of each run of 1 to 4 of them, joined by blanks, and how often it comes.
using Counts = std::map<std::string, int64_t>;
Counts count_runs(const std::vector<std::string_view>& words, size_t length) {
  Counts counts;
  for (size_t begin = 0; begin + length <= words.size(); ++begin) {
    std::string run(words[begin]);
    for (size_t i = 1; i < length; ++i) {
      run += ' ';
      run += words[begin + i];
    }
    ++counts[std::move(run)];
  }
  return counts;
}

}  // namespace

BleuCounts& BleuCounts::operator+=(const BleuCounts& other) {
  for (int n = 0; n < kOrders; ++n) {
    correct[n] += other.correct[n];
    total[n] += other.total[n];
  }
  answer_length += other.answer_length;
  reference_length += other.reference_length;
  return *this;
}

BleuCounts bleu_counts(std::string_view answer, std::string_view reference) {
  const auto answer_text = tokenize_13a(answer);
  const auto reference_text = tokenize_13a(reference);
  const auto answer_words = split(answer_text);
  const auto reference_words = split(reference_text);
  BleuCounts counts;
  counts.answer_length = static_cast<int64_t>(answer_words.size());
  counts.reference_length = static_cast<int64_t>(reference_words.size());
  for (int n = 0; n < kOrders; ++n) {
    const auto wanted = count_runs(reference_words, static_cast<size_t>(n) + 1);
    for (const auto& [run, count] : count_runs(answer_words, static_cast<size_t>(n) + 1)) {
      counts.total[n] += count;
      const auto found = wanted.find(run);
      counts.correct[n] += found == wanted.end() ? 0 : std::min(count, found->second);
    }
  }
  return counts;
}

double bleu(const BleuCounts& counts) {
  return counts.total[kOrders - 1] == 0 ? 0.0 : sentence_bleu(counts);  // no run of four words in any answer
}

double sentence_bleu(const BleuCounts& counts) {
  if (std::all_of(std::begin(counts.correct), std::end(counts.correct), [](int64_t count) { return count == 0; })) {
    return 0.0;
  }
  double smoothing = 1.0;
  double log_sum = 0.0;
  int orders = 0;
  for (; orders < kOrders && counts.total[orders] > 0; ++orders) {
    double precision = 100.0 * static_cast<double>(counts.correct[orders]) / static_cast<double>(counts.total[orders]);
    if (counts.correct[orders] == 0) {
      smoothing *= 2.0;
      precision = 100.0 / (smoothing * static_cast<double>(counts.total[orders]));
    }
    log_sum += std::log(precision);
  }
  const double ratio = static_cast<double>(counts.reference_length) / static_cast<double>(counts.answer_length);
  const double brevity = counts.answer_length < counts.reference_length ? std::exp(1.0 - ratio) : 1.0;
  return brevity * std::exp(log_sum / orders);
}

}  // namespace phi3tune::generate
