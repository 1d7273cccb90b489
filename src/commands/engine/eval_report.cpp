#include "eval_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "phi3tune/core/text.h"

namespace phi3tune::commands {
namespace {

using config::EvalMetric;

constexpr size_t kAnswersInMarkdown = 20;  // of each set
constexpr const char* kNotClear = "no clear difference";

bool is_share(EvalMetric metric) {
  return metric != EvalMetric::kLoss && metric != EvalMetric::kPerplexity && metric != EvalMetric::kBleu &&
         metric != EvalMetric::kChrf;
}

using Cells = std::vector<std::vector<std::string>>;

// The first row is the head; the first column stands to the left, the others to the right.
std::string table(const Cells& cells) {
  std::vector<size_t> widths(cells.front().size());
  for (const auto& row : cells) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string text;
  for (size_t r = 0; r < cells.size(); ++r) {
    for (size_t i = 0; i < widths.size(); ++i) {
      text +=
          i == 0 ? fmt::format("| {:<{}} |", cells[r][i], widths[i]) : fmt::format(" {:>{}} |", cells[r][i], widths[i]);
    }
    text += '\n';
    if (r == 0) {
      for (size_t i = 0; i < widths.size(); ++i) {
        text += i == 0 ? fmt::format("|{:-<{}}|", "", widths[i] + 2) : fmt::format("{:-<{}}:|", "", widths[i] + 1);
      }
      text += '\n';
    }
  }
  return text;
}

Cells score_cells(const SetScores& set, bool narrow) {
  Cells cells{{"", "base", "adapter", "difference", ""}};
  for (const auto& score : set.scores) {
    const auto side = [&](Side which) {
      const auto& interval = score.sides[which];
      return narrow ? score_text(score.metric, interval.value) : interval_text(score.metric, interval);
    };
    const std::string_view verdict = verdict_text(score);
    cells.push_back({score_label(score.metric), side(kBase), side(kAdapter),
                     interval_text(score.metric, score.difference, true),
                     std::string(narrow && verdict == kNotClear ? "not clear" : verdict)});
  }
  return cells;
}

std::string score_table(const SetScores& set, size_t columns) {
  const auto wide = table(score_cells(set, /*narrow=*/false));
  return columns == kNoColumns || wide.find('\n') <= columns ? wide : table(score_cells(set, /*narrow=*/true));
}

// A label may hold anything that a table is broken by.
std::string cell(const std::string& text) {
  std::string out;
  for (const char c : one_line(text)) {
    out += c == '|' ? std::string("\\|") : std::string{c};
  }
  return out;
}

Cells label_cells(const SetScores& set) {
  Cells cells{{"label", "wanted", "base gave", "right", "adapter gave", "right"}};
  const auto& base = set.labels[kBase];
  const auto& adapter = set.labels[kAdapter];
  for (size_t i = 0; i < base.labels.size(); ++i) {
    cells.push_back({cell(base.labels[i].label), std::to_string(base.labels[i].wanted),
                     std::to_string(base.labels[i].given), std::to_string(base.labels[i].right),
                     std::to_string(adapter.labels[i].given), std::to_string(adapter.labels[i].right)});
  }
  cells.push_back({"(none of them)", "", std::to_string(base.none), "", std::to_string(adapter.none), ""});
  return cells;
}

std::vector<const EvalRow*> answered_rows(const EvalSet& set, size_t most) {
  std::vector<const EvalRow*> rows;
  for (const auto& row : set.rows) {
    if (row.answered && rows.size() < most) {
      rows.push_back(&row);
    }
  }
  return rows;
}

// At most `width` characters.
std::string shortened(const std::string& text, size_t width) {
  const auto line = one_line(text);
  size_t at = 0;
  for (size_t characters = 0; at < line.size() && characters < width; ++characters) {
    (void)next_code_point(line, at);
  }
  return at >= line.size() ? line : line.substr(0, at) + " ...";
}

// A fence longer than every run of its character inside.
std::string fenced(const std::string& text) {
  size_t longest = 2;
  size_t run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  return fmt::format("{}text\n{}\n{}\n", fence, plain_lines(text), fence);
}

}  // namespace

std::string score_label(EvalMetric metric) {
  return std::string(config::eval_metric_name(metric)) + (is_share(metric) ? ", %" : "");
}

std::string score_text(EvalMetric metric, double value, bool with_sign) {
  const double shown = is_share(metric) ? 100.0 * value : value;
  std::string text = metric == EvalMetric::kLoss                                       ? fmt::format("{:.3f}", shown)
                     : metric == EvalMetric::kPerplexity && std::abs(shown) >= 10000.0 ? fmt::format("{:.3g}", shown)
                     : metric == EvalMetric::kPerplexity                               ? fmt::format("{:.2f}", shown)
                                                                                       : fmt::format("{:.1f}", shown);
  if (text.find_first_not_of("-0.") == std::string::npos) {
    text.erase(0, text.starts_with("-") ? 1 : 0);  // no "-0.0"
  }
  return with_sign && shown > 0.0 ? "+" + text : text;
}

std::string interval_text(EvalMetric metric, const generate::Interval& interval, bool with_sign) {
  return fmt::format("{} [{}, {}]", score_text(metric, interval.value, with_sign),
                     score_text(metric, interval.low, with_sign), score_text(metric, interval.high, with_sign));
}

const char* verdict_text(const EvalScore& score) {
  if (score.rows < kFewestRows) {
    return "too few rows";
  }
  const int verdict = verdict_of(score);
  return verdict > 0 ? "better" : verdict < 0 ? "worse" : kNotClear;
}

std::string headline(const SetScores& scores) {
  return scores.answered == 0 ? fmt::format("{} rows", scores.rows)
                              : fmt::format("{} rows, {} of them answered (greedy, at most {} new tokens)", scores.rows,
                                            scores.answered, scores.max_new_tokens);
}

std::string score_tables(const Evaluation& evaluation, size_t columns) {
  std::string text;
  for (const auto& set : evaluation.scores) {
    text += fmt::format("{}{}\n\n", text.empty() ? "" : "\n",
                        wrapped(fmt::format("{}: {}", set.name, headline(set)), columns));
    if (!set.scores.empty()) {
      text += score_table(set, columns);
    }
    if (!set.labels[kBase].labels.empty()) {
      text += "\n" + table(label_cells(set));
    }
    for (const auto& note : set.notes) {
      text += fmt::format("\n{}\n", wrapped(note, columns));
    }
  }
  constexpr const char* kIntervals =
      "[low, high]: 95 % bootstrap intervals over rows, of a difference over the same rows on both sides.";
  return text + fmt::format("\n{}\n", wrapped(kIntervals, columns));
}

std::string answers_text(const Evaluation& evaluation, size_t most, size_t longest, size_t columns) {
  constexpr size_t kIndent = 13;
  std::string text;
  for (const auto& set : evaluation.sets) {
    for (const auto* row : answered_rows(set, most)) {
      text += fmt::format("\n{}\n", row->place);
      const auto line = [&](const char* name, const std::string& words) {
        text += fmt::format("  {:<10} {}\n", name, wrapped(shortened(words, longest), columns, kIndent));
      };
      line("prompt", row->question.text);
      line("reference", row->question.reference);
      line("base", row->sides[kBase].answer);
      line("adapter", row->sides[kAdapter].answer);
    }
  }
  return text;
}

std::string markdown_report(const Evaluation& evaluation) {
  std::string text = fmt::format("# Base and adapter side by side\n\n- base: `{}`\n- adapter: `{}`\n- computed in {}\n",
                                 one_line(evaluation.base), one_line(evaluation.adapter), evaluation.computed);
  text += fmt::format("- phi3-tune {}\n\n{}", evaluation.program_version, score_tables(evaluation));
  for (const auto& set : evaluation.sets) {
    const auto rows = answered_rows(set, kAnswersInMarkdown);
    if (rows.empty()) {
      continue;
    }
    text += fmt::format("\n## Answers: {}\n", set.name);
    for (const auto* row : rows) {
      text += fmt::format("\n### {}\n\nPrompt\n\n{}\nReference\n\n{}\nBase\n\n{}\nAdapter\n\n{}", one_line(row->place),
                          fenced(row->question.text), fenced(row->question.reference), fenced(row->sides[kBase].answer),
                          fenced(row->sides[kAdapter].answer));
    }
  }
  return text;
}

}  // namespace phi3tune::commands
