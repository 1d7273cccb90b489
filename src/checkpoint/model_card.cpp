#include "phi3tune/checkpoint/model_card.h"

#include <fmt/format.h>

#include <cmath>

#include "phi3tune/core/text.h"
#include "phi3tune/io/json.h"

namespace phi3tune::checkpoint {
namespace {

// A double-quoted YAML scalar: a JSON string is one.
std::string quoted(const std::string& text) {
  return io::Json(text).dump(-1, ' ', false, io::Json::error_handler_t::replace);
}

// Inside a table a bar or a line break would end the cell.
std::string cell(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '|') {
      safe += "\\|";
    } else {
      safe += c == '\n' || c == '\r' ? ' ' : c;
    }
  }
  return safe;
}

void append_table(std::string& text, const char* title, const char* left, const char* right,
                  const std::vector<std::pair<std::string, std::string>>& rows) {
  if (rows.empty()) {
    return;
  }
  text += fmt::format("\n## {}\n\n| {} | {} |\n|---|---|\n", title, left, right);
  for (const auto& [name, value] : rows) {
    text += fmt::format("| {} | {} |\n", cell(name), cell(value));
  }
}

void append_losses(std::string& text, const std::vector<CardLoss>& losses) {
  if (losses.empty()) {
    return;
  }
  text +=
      "\n## Results\n\nMean loss per trained token, before the first update and at the end.\n\n"
      "| set | tokens | loss before | loss after | perplexity after |\n|---|---|---|---|---|\n";
  for (const CardLoss& loss : losses) {
    text += fmt::format("| {} | {} | {} | {:.4f} | {:.3f} |\n", cell(loss.name), loss.tokens,
                        loss.before ? fmt::format("{:.4f}", *loss.before) : "", loss.after, std::exp(loss.after));
  }
}

}  // namespace

std::string model_card_text(const ModelCard& card) {
  std::string text = fmt::format(
      "---\nbase_model: {}\nlibrary_name: peft\npipeline_tag: text-generation\ntags:\n- lora\n- phi3\n- "
      "phi3-tune\n---\n\n"
      "# {}\n\n{} adapter for `{}`, trained by phi3-tune {}.\n",
      quoted(card.base_model), card.title.empty() ? "Adapter" : card.title, card.method, card.base_model,
      card.program_version);
  append_table(text, "Data", "what", "how much", card.data);
  append_table(text, "Settings", "setting", "value", card.settings);
  append_losses(text, card.losses);
  text += "\n## Use\n\n";
  if (!card.chat_template.empty() && card.chat_template != "none") {
    text +=
        fmt::format("It was trained with the chat template `{}`, which is in this folder{}.\n\n", card.chat_template,
                    card.end_of_turn.empty() ? "" : fmt::format("; an answer ends with `{}`", card.end_of_turn));
  }
  text += fmt::format(
      "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
      "base = AutoModelForCausalLM.from_pretrained({0}, dtype=\"auto\")\n"
      "model = PeftModel.from_pretrained(base, \"path/of/this/folder\")\n"
      "tokenizer = AutoTokenizer.from_pretrained(\"path/of/this/folder\")\n```\n",
      quoted(card.base_model));
  return text;
}

}  // namespace phi3tune::checkpoint
