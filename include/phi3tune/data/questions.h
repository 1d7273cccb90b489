// What records ask, and the answers they hold: for generating, beside the examples that losses are taken of.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/data/dataset.h"
#include "phi3tune/data/records.h"
#include "phi3tune/data/template.h"
#include "phi3tune/data/tokenizer.h"

namespace phi3tune::data {

struct Question {
  std::string text;             // for people: the one message, or each behind its role
  std::vector<int32_t> prompt;  // as in training, up to where the answer begins
  std::string reference;
};

// The last assistant message is the reference, what stands before it the prompt; of prompt/completion texts the two
// texts. Nothing: plain text, or no assistant message with one before it. Throws DataError without a place.
std::optional<Question> question_of(const Record& record, const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                    const std::optional<std::string>& default_system_message);

// The questions of examples that read_dataset made with the same arguments, from their files read again: one for each,
// in order. Nothing where the record asks none, and for the further pieces of a record that was split. Throws DataError
// when a file changed in between.
std::vector<std::optional<Question>> read_questions(const config::DataOptions& options, const Dataset& dataset,
                                                    std::span<const Example> examples, const Tokenizer& tokenizer,
                                                    const ChatTemplate& chat_template);

}  // namespace phi3tune::data
