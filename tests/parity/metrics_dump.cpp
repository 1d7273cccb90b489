// Scores of the pairs {"answer", "reference"} on standard input, an object a line; then those of all of them.
#include <fmt/format.h>

#include <iostream>
#include <string>

#include "phi3tune/generate/answer_metrics.h"
#include "phi3tune/io/json.h"

int main() {
  using namespace phi3tune;
  generate::BleuCounts bleu;
  generate::ChrfCounts chrf;
  for (std::string line; std::getline(std::cin, line);) {
    const auto pair = io::Json::parse(line);
    const std::string answer = pair.at("answer");
    const std::string reference = pair.at("reference");
    const auto row_bleu = generate::bleu_counts(answer, reference);
    const auto row_chrf = generate::chrf_counts(answer, reference);
    bleu += row_bleu;
    chrf += row_chrf;
    const io::Json scores{{"normalized", generate::normalized_answer(answer)},
                          {"exact_match", generate::exact_match(answer, reference)},
                          {"f1", generate::token_f1(answer, reference)},
                          {"rouge_l", generate::rouge_l(answer, reference)},
                          {"bleu", generate::bleu(row_bleu)},
                          {"sentence_bleu", generate::sentence_bleu(row_bleu)},
                          {"chrf", generate::chrf(row_chrf)}};
    fmt::print("{}\n", scores.dump());
  }
  fmt::print("{}\n", io::Json{{"bleu", generate::bleu(bleu)}, {"chrf", generate::chrf(chrf)}}.dump());
}
