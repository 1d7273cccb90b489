#include "phi3tune/generate/answer_metrics.h"

#include <algorithm>
#include <map>
#include <vector>

#include "generate/python_text.h"

namespace phi3tune::generate {
namespace {

// string.punctuation
bool is_ascii_punctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

bool is_article(std::u32string_view word) { return word == U"a" || word == U"an" || word == U"the"; }

// As re.sub(r"\b(a|an|the)\b", " ", text).
std::u32string without_articles(std::u32string_view text) {
  std::u32string kept;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size() && is_word(text[end])) {
      ++end;
    }
    const auto word = text.substr(begin, end - begin);
    kept += is_article(word) ? std::u32string_view(U" ") : word;
    if (end < text.size()) {
      kept += text[end++];
    }
    begin = end;
  }
  return kept;
}

// Runs of a-z0-9 of the lower-cased text, as rouge_score takes them.
std::vector<std::u32string> rouge_words(std::string_view text) {
  std::vector<std::u32string> words;
  std::u32string word;
  for (const char32_t c : lower(text) + U" ") {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  return words;
}

size_t longest_common_subsequence(const std::vector<std::u32string>& left, const std::vector<std::u32string>& right) {
  std::vector<size_t> before(right.size() + 1);
  std::vector<size_t> row(right.size() + 1);
  for (const auto& word : left) {
    for (size_t j = 0; j < right.size(); ++j) {
      row[j + 1] = word == right[j] ? before[j] + 1 : std::max(before[j + 1], row[j]);
    }
    std::swap(before, row);
  }
  return before.back();
}

double harmonic_mean(size_t common, size_t answer, size_t reference) {
  if (common == 0) {
    return 0.0;
  }
  const double precision = static_cast<double>(common) / static_cast<double>(answer);
  const double recall = static_cast<double>(common) / static_cast<double>(reference);
  return 2.0 * precision * recall / (precision + recall);
}

}  // namespace

std::string normalized_answer(std::string_view text) {
  auto low = lower(text);
  std::erase_if(low, is_ascii_punctuation);
  const auto kept = to_utf8(without_articles(low));
  return join(split(kept), " ");
}

double exact_match(std::string_view answer, std::string_view reference) {
  return normalized_answer(answer) == normalized_answer(reference) ? 1.0 : 0.0;
}

double token_f1(std::string_view answer, std::string_view reference) {
  const auto answer_text = normalized_answer(answer);
  const auto reference_text = normalized_answer(reference);
  const auto answer_words = split(answer_text);
  const auto reference_words = split(reference_text);
  if (answer_words.empty() || reference_words.empty()) {
    return answer_words.empty() && reference_words.empty() ? 1.0 : 0.0;
  }
  std::map<std::string_view, int64_t> left;
  for (const auto word : reference_words) {
    ++left[word];
  }
  size_t common = 0;
  for (const auto word : answer_words) {
    const auto found = left.find(word);
    if (found != left.end() && found->second > 0) {
      --found->second;
      ++common;
    }
  }
  return harmonic_mean(common, answer_words.size(), reference_words.size());
}

double rouge_l(std::string_view answer, std::string_view reference) {
  const auto answer_words = rouge_words(answer);
  const auto reference_words = rouge_words(reference);
  return harmonic_mean(longest_common_subsequence(reference_words, answer_words), answer_words.size(),
                       reference_words.size());
}

}  // namespace phi3tune::generate
