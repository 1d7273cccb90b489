// One JSON object to one record: the formats people keep conversations in, detected or named.
//
//   messages            {"messages": [{"role", "content"[, "weight", "train", "tools"]}, ...]}, field names settable
//   sharegpt            {"conversations": [{"from": human|gpt|system, "value"}, ...][, "system"]}
//   alpaca              {"instruction", "output"[, "input", "system", "history": [[question, answer], ...]]}
//   prompt_completion   {"prompt", "completion"}, both text or both lists of messages
//   text                {"text"}
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/data/template.h"
#include "phi3tune/io/json.h"

namespace phi3tune::data {

struct Record {
  config::RecordFormat format = config::RecordFormat::kMessages;
  std::vector<Message> messages;  // empty for plain text
  size_t prompt_messages = 0;     // prompt_completion of messages: how many of them are the prompt
  std::string prompt;             // prompt_completion of text
  std::string completion;         // prompt_completion of text; text
  std::vector<std::string> ignored_keys;

  bool is_chat() const noexcept { return !messages.empty(); }
};

// "messages", "sharegpt", "alpaca", "prompt_completion", "text".
std::string_view format_name(config::RecordFormat format) noexcept;

// The formats whose keys the object has. One: that is it. Field names come from the options.
std::vector<config::RecordFormat> matching_formats(const io::Json& object, const config::DatasetOptions& options);

// Why the format cannot be told, with the keys that were seen and how to name it.
std::string describe_undetected(const io::Json& object, const std::vector<config::RecordFormat>& matching,
                                const config::DatasetOptions& options);

// Throws DataError without a place: what was found and wanted.
Record parse_record(const io::Json& object, config::RecordFormat format, const config::DatasetOptions& options);

// Of roles, contents and tools, or of the plain text: the same for the same text in another format or with other
// weights.
Hash128 content_hash(const Record& record);

}  // namespace phi3tune::data
