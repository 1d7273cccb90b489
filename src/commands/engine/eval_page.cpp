#include "eval_page.h"

#include <fmt/format.h>

namespace phi3tune::commands {
namespace {

using config::EvalMetric;

constexpr size_t kMostAnswers = 500;  // of each set; rows.jsonl has them all

// Both schemes have the contrast of ordinary text (WCAG AA).
constexpr const char* kHead = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Base and adapter side by side</title>
<style>
:root { --page: #fbfbfa; --card: #fff; --text: #1d1d1f; --quiet: #5f6368; --line: #dcdcd8; --up: #0b6b3a; --up-back: #e3f4ea; --down: #a3231c; --down-back: #fbe9e7; }
@media (prefers-color-scheme: dark) {
  :root { --page: #17181a; --card: #202225; --text: #e8e8e6; --quiet: #a3a7ad; --line: #3a3d42; --up: #7fd8a4; --up-back: #173524; --down: #ff9d94; --down-back: #42201d; }
}
body { margin: 0 auto; max-width: 78rem; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; }
p, dl { margin: .25rem 0 .75rem; color: var(--quiet); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { padding: .35rem .9rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left; }
td small { color: var(--quiet); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .75rem 1rem; margin: .75rem 0; }
article header { color: var(--quiet); font-size: .85rem; overflow-wrap: anywhere; }
article h3 { font-size: .8rem; margin: 0 0 .25rem; color: var(--quiet); font-weight: 600; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.prompt { margin: .25rem 0 .75rem; font-weight: 600; }
.sides { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; }
@media (max-width: 52rem) {
  .sides { grid-template-columns: 1fr; }
  table { font-size: .85rem; }
  th, td { padding: .3rem .4rem; vertical-align: top; }
  th:first-child, td:first-child { padding-left: 0; }
  td:last-child { white-space: normal; }
  td small { display: block; }
}
/* The difference tells who is better: its interval stays. */
@media (max-width: 40rem) { td:nth-child(2) small, td:nth-child(3) small { display: none; } }
@media (max-width: 29rem) { .measured :is(td, th):last-child { display: none; } }
.scores { margin: .5rem 0 0 -.3rem; font-size: .8rem; color: var(--quiet); font-variant-numeric: tabular-nums; }
.scores span { display: inline-block; margin-right: .6rem; padding: 0 .3rem; border-radius: 4px; }
.up { color: var(--up); background: var(--up-back); }
.down { color: var(--down); background: var(--down-back); }
td.up, td.down { border-radius: 4px; }
</style>
</head>
<body>
)";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        // Control characters have no place in HTML.
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F) {
          out += "&#xFFFD;";
        } else {
          out += c;
        }
    }
  }
  return out;
}

std::string colour_of(int verdict) { return verdict > 0 ? "up" : verdict < 0 ? "down" : ""; }

std::string class_of(const std::string& colour) { return colour.empty() ? "" : " class=\"" + colour + "\""; }

std::string interval_cell(EvalMetric metric, const generate::Interval& interval, const std::string& colour,
                          bool with_sign) {
  return fmt::format("<td{}>{} <small>[{}, {}]</small></td>", class_of(colour),
                     score_text(metric, interval.value, with_sign), score_text(metric, interval.low, with_sign),
                     score_text(metric, interval.high, with_sign));
}

std::string score_table(const SetScores& set) {
  std::string html =
      "<div class=\"wide\"><table "
      "class=\"measured\">\n<tr><th></th><th>base</th><th>adapter</th><th>difference</th><th></th></tr>\n";
  for (const auto& score : set.scores) {
    html += fmt::format("<tr><td>{}</td>{}{}{}<td>{}</td></tr>\n", score_label(score.metric),
                        interval_cell(score.metric, score.sides[kBase], "", false),
                        interval_cell(score.metric, score.sides[kAdapter], "", false),
                        interval_cell(score.metric, score.difference, colour_of(verdict_of(score)), true),
                        verdict_text(score));
  }
  return html + "</table></div>\n";
}

std::string label_table(const SetScores& set) {
  const auto& base = set.labels[kBase];
  const auto& adapter = set.labels[kAdapter];
  std::string html =
      "<div class=\"wide\"><table>\n<tr><th>label</th><th>wanted</th><th>base gave</th><th>right</th><th>adapter "
      "gave</th><th>right</th></tr>\n";
  for (size_t i = 0; i < base.labels.size(); ++i) {
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                        escaped(base.labels[i].label), base.labels[i].wanted, base.labels[i].given,
                        base.labels[i].right, adapter.labels[i].given, adapter.labels[i].right);
  }
  return html + fmt::format(
                    "<tr><td>(none of them)</td><td></td><td>{}</td><td></td><td>{}</td><td></td></tr>\n"
                    "</table></div>\n",
                    base.none, adapter.none);
}

// Of the adapter's answer beside the base's.
std::string score_line(const Evaluation& evaluation, const SideResult& result, const SideResult* beside) {
  const auto scores = row_scores(evaluation, result);
  const auto other = beside == nullptr ? scores : row_scores(evaluation, *beside);
  std::string html = "<div class=\"scores\">";
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto& [metric, value] = scores[i];
    const auto colour = colour_of(value > other[i].second ? 1 : value < other[i].second ? -1 : 0);
    html += fmt::format("<span{}>{} {}</span>", class_of(colour), config::eval_metric_name(metric),
                        score_text(metric, value));
  }
  return html + (result.cut ? "<span>cut at its longest</span>" : "") + "</div>";
}

std::string answer(const Evaluation& evaluation, const EvalRow& row) {
  const auto side = [&](const char* name, const std::string& text, const std::string& scores) {
    return fmt::format("<div><h3>{}</h3><div class=\"text\" dir=\"auto\">{}</div>{}</div>\n", name, escaped(text),
                       scores);
  };
  const auto& base = row.sides[kBase];
  const auto& adapter = row.sides[kAdapter];
  return fmt::format(
      "<article>\n<header>{}</header>\n<div class=\"text prompt\" dir=\"auto\">{}</div>\n<div "
      "class=\"sides\">\n{}{}{}</div>\n"
      "</article>\n",
      escaped(row.place), escaped(row.question.text), side("reference", row.question.reference, ""),
      side("base", base.answer, score_line(evaluation, base, nullptr)),
      side("adapter", adapter.answer, score_line(evaluation, adapter, &base)));
}

std::string answers(const Evaluation& evaluation, const EvalSet& set, const SetScores& scores) {
  std::string html;
  size_t shown = 0;
  for (const auto& row : set.rows) {
    if (row.answered && shown < kMostAnswers) {
      html += answer(evaluation, row);
      ++shown;
    }
  }
  if (shown < scores.answered) {
    html += fmt::format("<p>The first {} of {} answers; rows.jsonl holds all.</p>\n", shown, scores.answered);
  }
  return html;
}

}  // namespace

std::string html_report(const Evaluation& evaluation) {
  std::string html = kHead;
  html += fmt::format(
      "<h1>Base and adapter side by side</h1>\n<dl><dt>base</dt><dd>{}</dd><dt>adapter</dt><dd>{}</dd>"
      "<dt>computed</dt><dd>{}</dd><dt>by</dt><dd>phi3-tune {}</dd></dl>\n"
      "<p>[low, high]: 95 % bootstrap intervals over rows, of a difference over the same rows on both sides.</p>\n",
      escaped(evaluation.base), escaped(evaluation.adapter), escaped(evaluation.computed),
      escaped(evaluation.program_version));
  for (size_t i = 0; i < evaluation.scores.size(); ++i) {
    const auto& scores = evaluation.scores[i];
    html += fmt::format("<section>\n<h2>{}</h2>\n<p>{}</p>\n", escaped(scores.name), escaped(headline(scores)));
    html += scores.scores.empty() ? "" : score_table(scores);
    html += scores.labels[kBase].labels.empty() ? "" : label_table(scores);
    for (const auto& note : scores.notes) {
      html += fmt::format("<p>{}</p>\n", escaped(note));
    }
    html += answers(evaluation, evaluation.sets[i], scores) + "</section>\n";
  }
  return html + "</body>\n</html>\n";
}

}  // namespace phi3tune::commands
