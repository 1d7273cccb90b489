// What is asked of a model: texts and conversations, to token ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loaded_model.h"
#include "phi3tune/commands/requests.h"
#include "phi3tune/data/template.h"
#include "phi3tune/io/json.h"

namespace phi3tune::commands {

struct Prompt {
  std::string place;  // for messages: "prompts.jsonl:3", "the prompt"
  io::Json asked;     // as it came, for --json: {"prompt": text} or {"messages": [...]}
  std::vector<int32_t> tokens;
};

// What prompts are read with.
struct PromptContext {
  const data::Tokenizer& tokenizer;
  const data::ChatTemplate* chat_template = nullptr;  // null: prompts are text to continue
  int64_t positions = 0;                              // that the model has; 0: not known
  std::optional<std::string> system;                  // before each prompt
  bool system_is_default = false;                     // a conversation may begin with its own instead
};

// The tokens of a conversation up to where the assistant's answer begins, as in training. Throws DataError without a
// place.
std::vector<int32_t> encode_conversation(const data::Tokenizer& tokenizer, const data::ChatTemplate& chat_template,
                                         const std::vector<data::Message>& messages);
std::vector<int32_t> encode_conversation(const OpenedModel& opened, const std::vector<data::Message>& messages);

// Every prompt of the request, all of them checked: file, standard input or the one given. Throws DataError with a line
// for every fault: a record that is no prompt, one that leaves the model no position for an answer.
std::vector<Prompt> read_prompts(const GenerateRequest& request, const OpenedModel& opened);

// Every prompt of a JSONL file, likewise.
std::vector<Prompt> read_prompt_file(const std::string& path, const PromptContext& context);

}  // namespace phi3tune::commands
