// An evaluation as people and programs read it: tables of Markdown, JSON, and an object a row.
#pragma once

#include <string>
#include <vector>

#include "eval_scores.h"
#include "phi3tune/io/json.h"
#include "terminal_text.h"

namespace phi3tune::commands {

struct Evaluation {
  std::string base;  // folders
  std::string adapter;
  std::string computed;  // "float32, on the cpu", "bfloat16, linears in NF4, on the cpu"
  std::string program_version;
  std::vector<config::EvalMetric> metrics;  // that were asked for
  std::vector<EvalSet> sets;
  std::vector<SetScores> scores;  // of each set
};

// What a column of scores says: "3.512", "41.2"; shares as percent.
std::string score_text(config::EvalMetric metric, double value, bool with_sign = false);
std::string score_label(config::EvalMetric metric);  // "token_accuracy, %"
std::string interval_text(config::EvalMetric metric, const generate::Interval& interval, bool with_sign = false);
const char* verdict_text(const EvalScore& score);
std::string headline(const SetScores& scores);  // "214 rows, 50 of them answered ..."

// Of each set a table of its scores, and of its labels; aligned. Where it is wider than `columns` it leaves out what
// it can: the intervals of the two sides, for those of the differences say who is better.
std::string score_tables(const Evaluation& evaluation, size_t columns = kNoColumns);
// The first `most` answers of each set, one under the other, of at most `longest` characters.
std::string answers_text(const Evaluation& evaluation, size_t most, size_t longest, size_t columns = kNoColumns);
// The tables and the first answers.
std::string markdown_report(const Evaluation& evaluation);
// {"base", "adapter", "sets": [{"set", "rows", "answered", "metrics": {NAME: {"base": {"value", "low", "high"},
// ...}}}]}. Shares from 0 to 1; BLEU and chrF from 0 to 100.
io::Json report_json(const Evaluation& evaluation);
// An object a row: {"set", "source", "trained_tokens"[, "prompt", "reference"], "base": {...}, "adapter": {...}}.
std::string row_lines(const Evaluation& evaluation);

// What a row's answer scores by itself; BLEU as sacrebleu's of a sentence, chrF as of a corpus of it alone.
std::vector<std::pair<config::EvalMetric, double>> row_scores(const Evaluation& evaluation, const SideResult& result);

}  // namespace phi3tune::commands
