// A record to token ids and the tokens it trains.
//
// Conversations: the rendered text is encoded once, and each token takes the meaning of the text it came from. The
// rules are those of TRL's training templates for Phi-3: an assistant's content and its end of turn are trained, with
// the newline behind it where that is a token of its own; the final end-of-text token is trained if the last message is
// the assistant's. One difference: where a content begins with whitespace that the header token swallowed, the header
// token stays untrained.
// prompt/completion: trained from where the tokens of the prompt and of the whole part. Text: every token; the eos text
// is appended unless it is there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/data/records.h"
#include "phi3tune/data/template.h"
#include "phi3tune/data/tokenizer.h"

namespace phi3tune::data {

struct EncodeOptions {
  std::vector<std::string> roles_to_train{"assistant"};
  config::TrainOnEos train_on_eos = config::TrainOnEos::kTurn;
  bool train_on_inputs = false;
  std::optional<std::string> default_system_message = std::nullopt;
};

// May a token be cut when a row is too long and only its prompt may shrink?
enum class Cut : uint8_t {
  kNever,   // trained, or the template's own
  kFirst,   // prompt text
  kSystem,  // system text: only when all other prompt text is gone
};

struct EncodedRecord {
  std::vector<int32_t> input_ids;
  std::vector<float> weights;  // 0: not trained; the first is always 0
  std::vector<Cut> cuts;
  int64_t system_messages_dropped = 0;
  bool prompt_not_prefix = false;
  bool ends_without_answer = false;
  bool special_token_in_text = false;
};

// Throws DataError without a place: a role the template does not hold, a text record without an eos token to end it,
// two BOS tokens at the start.
EncodedRecord encode_record(const Record& record, const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                            const EncodeOptions& options);

// The tokens of a text that begins a row and has no template: behind a BOS token where the tokenizer adds one.
std::vector<int32_t> encode_text(const std::string& text, const Tokenizer& tokenizer);

}  // namespace phi3tune::data
