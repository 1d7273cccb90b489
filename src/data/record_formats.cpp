// Telling formats apart by their keys.
#include <fmt/format.h>

#include "data/record_fields.h"
#include "phi3tune/data/records.h"

namespace phi3tune::data {
namespace {

using config::DatasetOptions;
using config::RecordFormat;
using io::Json;

constexpr std::string_view kConversations = "conversations";

bool first_element_has(const Json& object, std::string_view list, std::string_view key) {
  const auto value = object.find(std::string(list));
  return value != object.end() && value->is_array() && !value->empty() && value->front().is_object() &&
         has(value->front(), key);
}

}  // namespace

std::string_view format_name(RecordFormat format) noexcept {
  switch (format) {
    case RecordFormat::kMessages:
      return "messages";
    case RecordFormat::kShareGpt:
      return "sharegpt";
    case RecordFormat::kAlpaca:
      return "alpaca";
    case RecordFormat::kPromptCompletion:
      return "prompt_completion";
    case RecordFormat::kText:
      return "text";
    case RecordFormat::kAuto:
      break;
  }
  return "auto";
}

std::vector<RecordFormat> matching_formats(const Json& object, const DatasetOptions& options) {
  std::vector<RecordFormat> found;
  const bool own_key = options.field_messages == kConversations;
  if (own_key ? first_element_has(object, kConversations, options.field_role) : has(object, options.field_messages)) {
    found.push_back(RecordFormat::kMessages);
  }
  // A conversations list of role/content messages is no ShareGPT; describe_undetected says how to name it.
  const bool taken = own_key && !found.empty();
  if (has(object, kConversations) && !taken && (!found.empty() || !first_element_has(object, kConversations, "role"))) {
    found.push_back(RecordFormat::kShareGpt);
  }
  if (has(object, "instruction") && has(object, "output")) {
    found.push_back(RecordFormat::kAlpaca);
  }
  if (has(object, "prompt") && has(object, "completion")) {
    found.push_back(RecordFormat::kPromptCompletion);
  }
  if (has(object, "text")) {
    found.push_back(RecordFormat::kText);
  }
  return found;
}

std::string describe_undetected(const Json& object, const std::vector<RecordFormat>& matching,
                                const DatasetOptions& options) {
  if (!object.is_object()) {
    return fmt::format("a record is {}; wanted an object", kind_of(object));
  }
  if (matching.size() > 1) {
    std::string names;
    for (const RecordFormat format : matching) {
      names += fmt::format("{}{}", names.empty() ? "" : " and ", format_name(format));
    }
    return fmt::format(
        "the record can be read as {}; it has the keys {}. Name one in the dataset's `type`: chat_template (messages), "
        "sharegpt, alpaca, prompt_completion or completion (text)",
        names, keys_of(object));
  }
  if (first_element_has(object, kConversations, "role")) {
    return "\"conversations\" holds messages with \"role\"; say so with the dataset's field_messages: conversations";
  }
  std::string hint;
  if (has(object, "role") && has(object, "content")) {
    hint = "; this is one message: a record holds the whole conversation";
  } else if (has(object, "chosen") || has(object, "rejected")) {
    hint = "; chosen and rejected are preference data, which is not trained yet";
  }
  return fmt::format(
      "the record's format is not known; it has the keys {}. Wanted \"{}\", \"conversations\", \"instruction\" and "
      "\"output\", \"prompt\" and \"completion\", or \"text\"{}",
      keys_of(object), options.field_messages, hint);
}

}  // namespace phi3tune::data
