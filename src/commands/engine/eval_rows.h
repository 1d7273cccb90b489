// What an evaluation finds for each row: of the base, and of the adapter on it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "phi3tune/data/dataset.h"
#include "phi3tune/data/questions.h"
#include "phi3tune/data/tokenizer.h"
#include "phi3tune/generate/answer_metrics.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/train/evaluation.h"

namespace phi3tune::commands {

enum Side : size_t { kBase, kAdapter, kSides };
inline constexpr std::array<const char*, kSides> kSideNames{"base", "adapter"};

struct SideResult {
  double weighted_loss = 0.0;  // summed over the trained tokens
  int64_t correct = 0;         // trained tokens whose largest logit is the target
  std::string answer;
  bool cut = false;  // the answer reached its longest
  double exact_match = 0.0;
  double f1 = 0.0;
  double rouge_l = 0.0;
  generate::BleuCounts bleu;
  generate::ChrfCounts chrf;
  bool right_label = false;
};

struct EvalRow {
  std::string place;  // file:line
  double weight = 0.0;
  int64_t targets = 0;
  bool answered = false;
  data::Question question;  // where it is answered
  std::array<SideResult, kSides> sides;
};

struct EvalSet {
  std::string name;
  std::vector<EvalRow> rows;
  int64_t max_new_tokens = 0;
  int64_t asking = 0;               // rows that ask something
  int64_t without_question = 0;     // those that do not: plain text
  int64_t too_long = 0;             // rows whose prompt leaves no position for an answer
  std::vector<std::string> labels;  // of classification-shaped data
  std::string no_labels;            // why there are none
};

// The set's rows with what is known before a model computes. The `samples` rows that are answered are those with the
// smallest content hashes, so more data leave most of them; in the set's order. max_new_tokens 0: a quarter more than
// the longest of their references, and 16.
EvalSet prepare_set(const train::EvaluationSet& set, std::vector<std::optional<data::Question>> questions,
                    const data::Tokenizer& tokenizer, const phi3::ModelConfig& model, int64_t samples,
                    int64_t max_new_tokens);

// Called as rows get done, and between.
using OnRows = std::function<void(size_t done)>;

// Losses of every row, a row a pass. Throws NumericsError naming a row whose loss is not finite, Interrupted.
void measure_losses(model::Phi3Model& model, const train::EvaluationSet& examples, EvalSet& set, Side side,
                    const OnRows& on_rows);

// Greedy answers of the rows that are answered. Throws Interrupted.
void answer_rows(model::Phi3Model& model, const data::Tokenizer& tokenizer, const std::vector<int64_t>& stop_ids,
                 int64_t batch_size, EvalSet& set, Side side, const OnRows& on_rows);

}  // namespace phi3tune::commands
