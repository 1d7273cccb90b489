// Answers on standard output in the order of their prompts, as they come.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "phi3tune/data/tokenizer.h"
#include "phi3tune/generate/generator.h"
#include "phi3tune/generate/text_stream.h"
#include "prompts.h"

namespace phi3tune::commands {

// Text: the answer that is next in order grows on the screen, the others wait; of several each has a line with its
// place before it. --json: an object for each,
//   {"event": "answer", "index", "place", "prompt" or "messages", "answer", "tokens", "finish": "stop" | "length" |
//    "interrupted", "stop_id" (null without one), "prompt_tokens", "new_tokens"[, "log_probabilities"]}
// where tokens are without the stop id, and new_tokens and log_probabilities count it.
class AnswerPrinter {
 public:
  // Both must outlive it.
  AnswerPrinter(const std::vector<Prompt>& prompts, const data::Tokenizer& tokenizer, bool json,
                bool log_probabilities);
  // False when standard output takes nothing any more.
  bool add(size_t prompt, int32_t token);
  void end(size_t prompt, const generate::Answer& answer);

 private:
  struct Growing {
    generate::TextStream stream;
    std::string text;
    size_t shown = 0;  // bytes of it
    bool begun = false;
    bool ended = false;
    std::string line;  // of --json
  };

  void show_what_is_next();
  void show(size_t index);

  const std::vector<Prompt>& prompts_;
  bool json_;
  bool log_probabilities_;
  std::vector<Growing> answers_;
  size_t next_ = 0;
};

}  // namespace phi3tune::commands
