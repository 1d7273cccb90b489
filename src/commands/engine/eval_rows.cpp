#include "eval_rows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/data/batching.h"
#include "phi3tune/generate/generator.h"
#include "phi3tune/generate/labels.h"
#include "phi3tune/train/token_batch.h"

namespace phi3tune::commands {
namespace {

constexpr int64_t kMargin = 16;  // tokens that an answer may be longer than a quarter more than the longest reference

void stop_if_asked() {
  if (stop_requested()) {
    throw Interrupted("stopped while evaluating: nothing was written");
  }
}

void score(const data::Question& question, bool labelled, SideResult& result) {
  const auto& reference = question.reference;
  result.exact_match = generate::exact_match(result.answer, reference);
  result.f1 = generate::token_f1(result.answer, reference);
  result.rouge_l = generate::rouge_l(result.answer, reference);
  result.bleu = generate::bleu_counts(result.answer, reference);
  result.chrf = generate::chrf_counts(result.answer, reference);
  result.right_label = labelled && generate::normalized_label(result.answer) == generate::normalized_label(reference);
}

void settle_labels(const std::vector<std::optional<data::Question>>& questions, EvalSet& set) {
  std::vector<std::string> references;
  for (const auto& question : questions) {
    if (question) {
      references.push_back(question->reference);
    }
  }
  if (auto labels = generate::find_labels(references)) {
    set.labels = std::move(*labels);
  } else {
    set.no_labels = "its references are not a few labels (two or more, each at least twice, four rows a label or more)";
  }
}

}  // namespace

EvalSet prepare_set(const train::EvaluationSet& set, std::vector<std::optional<data::Question>> questions,
                    const data::Tokenizer& tokenizer, const phi3::ModelConfig& model, int64_t samples,
                    int64_t max_new_tokens) {
  EvalSet prepared;
  prepared.name = set.name;
  settle_labels(questions, prepared);
  std::vector<size_t> asked;
  for (size_t i = 0; i < set.examples.size(); ++i) {
    const auto& example = set.examples[i];
    EvalRow row;
    row.place = set.dataset->place(example.source);
    row.targets = example.trained_tokens();
    prepared.rows.push_back(std::move(row));
    const bool piece = i > 0 && set.examples[i - 1].source.file == example.source.file &&
                       set.examples[i - 1].source.line == example.source.line;
    if (!questions[i]) {
      prepared.without_question += piece ? 0 : 1;
      continue;
    }
    ++prepared.asking;
    if (model.max_position_embeddings > 0 &&
        static_cast<int64_t>(questions[i]->prompt.size()) >= model.max_position_embeddings) {
      ++prepared.too_long;
    } else {
      asked.push_back(i);
    }
  }
  std::sort(asked.begin(), asked.end(), [&](size_t left, size_t right) {
    return std::pair(set.examples[left].sample_id, left) < std::pair(set.examples[right].sample_id, right);
  });
  asked.resize(std::min(asked.size(), static_cast<size_t>(std::max<int64_t>(0, samples))));
  size_t longest = 0;
  for (const size_t i : asked) {
    prepared.rows[i].answered = true;
    prepared.rows[i].question = std::move(*questions[i]);
    longest = std::max(longest, tokenizer.encode(prepared.rows[i].question.reference).size());
  }
  prepared.max_new_tokens =
      max_new_tokens > 0 ? max_new_tokens : static_cast<int64_t>(longest) + static_cast<int64_t>(longest) / 4 + kMargin;
  return prepared;
}

void measure_losses(model::Phi3Model& model, const train::EvaluationSet& examples, EvalSet& set, Side side,
                    const OnRows& on_rows) {
  for (size_t i = 0; i < set.rows.size(); ++i) {
    stop_if_asked();
    on_rows(i);
    const data::Row row{static_cast<int64_t>(i)};
    const auto batch = data::make_micro_batch(examples.examples, std::span(&row, 1));
    const auto sums = model.evaluate(train::to_token_batch(batch, model.wide_dtype()));
    auto& result = set.rows[i].sides[side];
    result.weighted_loss = sums.weighted_loss;
    result.correct = sums.correct;
    set.rows[i].weight = sums.weight;
    if (!std::isfinite(sums.weighted_loss)) {
      throw NumericsError("{}: the loss of the {} is {}, a finite number was expected", set.rows[i].place,
                          kSideNames[side], sums.weighted_loss);
    }
  }
}

void answer_rows(model::Phi3Model& model, const data::Tokenizer& tokenizer, const std::vector<int64_t>& stop_ids,
                 int64_t batch_size, EvalSet& set, Side side, const OnRows& on_rows) {
  std::vector<EvalRow*> rows;
  std::vector<std::vector<int32_t>> prompts;
  for (auto& row : set.rows) {
    if (row.answered) {
      rows.push_back(&row);
      prompts.push_back(row.question.prompt);
    }
  }
  if (rows.empty()) {
    return;
  }
  config::GenerationOptions options;
  options.max_new_tokens = set.max_new_tokens;
  options.batch_size = std::max<int64_t>(1, batch_size);
  generate::Generator generator(model, options, stop_ids);
  size_t done = 0;
  const auto on_token = [&](size_t, int32_t) {
    on_rows(done);
    return true;
  };
  const auto answers =
      generator.run(prompts, on_token, /*first_stream=*/0, [&](size_t, const generate::Answer&) { on_rows(++done); });
  stop_if_asked();
  for (size_t i = 0; i < rows.size(); ++i) {
    auto& result = rows[i]->sides[side];
    result.answer = tokenizer.decode(answers[i].tokens, true);
    result.cut = answers[i].finish == generate::Finish::kLength;
    score(rows[i]->question, !set.labels.empty(), result);
  }
}

}  // namespace phi3tune::commands
