#include "answer_printer.h"

#include <fmt/format.h>

#include <cstdio>
#include <string_view>

#include "answer_report.h"
#include "phi3tune/core/stop.h"

namespace phi3tune::commands {
namespace {

void put(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

}  // namespace

AnswerPrinter::AnswerPrinter(const std::vector<Prompt>& prompts, const data::Tokenizer& tokenizer, bool json,
                             bool log_probabilities)
    : prompts_(prompts), json_(json), log_probabilities_(log_probabilities) {
  answers_.reserve(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    answers_.push_back({.stream = generate::TextStream(tokenizer), .text = {}, .line = {}});
  }
}

bool AnswerPrinter::add(size_t prompt, int32_t token) {
  auto& answer = answers_[prompt];
  answer.begun = true;
  answer.text += answer.stream.add(token);
  show_what_is_next();
  if (std::ferror(stdout) != 0) {
    request_stop();  // nobody reads the answers that would follow
    return false;
  }
  return true;
}

void AnswerPrinter::end(size_t prompt, const generate::Answer& answer) {
  auto& ended = answers_[prompt];
  ended.text += ended.stream.finish();
  ended.ended = true;
  ended.begun = ended.begun || answer.finish != generate::Finish::kInterrupted;
  if (json_) {
    io::Json event{{"event", "answer"}, {"index", prompt}, {"place", prompts_[prompt].place}};
    event.update(prompts_[prompt].asked);
    event.update({{"answer", ended.text},
                  {"tokens", answer.tokens},
                  {"finish", finish_name(answer.finish)},
                  {"stop_id", answer.stop_id ? io::Json(*answer.stop_id) : io::Json(nullptr)},
                  {"prompt_tokens", prompts_[prompt].tokens.size()},
                  {"new_tokens", answer.tokens.size() + (answer.stop_id ? 1 : 0)}});
    if (log_probabilities_) {
      event["log_probabilities"] = answer.log_probabilities;
    }
    ended.line = event.dump(-1, ' ', false, io::Json::error_handler_t::replace);
  }
  show_what_is_next();
}

void AnswerPrinter::show_what_is_next() {
  while (next_ < answers_.size()) {
    show(next_);
    if (!answers_[next_].ended) {
      break;
    }
    ++next_;
  }
  std::fflush(stdout);
}

void AnswerPrinter::show(size_t index) {
  auto& answer = answers_[index];
  if (json_) {
    if (answer.ended) {
      put(answer.line + "\n");
    }
    return;
  }
  if (!answer.begun) {
    return;  // nothing of it came, and where it has ended nothing will
  }
  if (answer.shown == 0 && answers_.size() > 1 && (!answer.text.empty() || answer.ended)) {
    put(fmt::format("{}--- {}\n", index == 0 ? "" : "\n", prompts_[index].place));
  }
  put(std::string_view(answer.text).substr(answer.shown));
  answer.shown = answer.text.size();
  if (answer.ended) {
    put("\n");
  }
}

}  // namespace phi3tune::commands
