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

// The tokens of a conversation up to where the assistant's answer begins, as in training. Throws DataError without a
// place.
std::vector<int32_t> encode_conversation(const OpenedModel& opened, const std::vector<data::Message>& messages);

// Every prompt of the request, all of them checked: file, standard input or the one given. Throws DataError with a line
// for every fault: a record that is no prompt, one that leaves the model no position for an answer.
std::vector<Prompt> read_prompts(const GenerateRequest& request, const OpenedModel& opened);

}  // namespace phi3tune::commands
