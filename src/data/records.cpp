#include "phi3tune/data/records.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "data/record_fields.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

using config::DatasetOptions;
using config::RecordFormat;
using io::Json;

constexpr std::string_view kConversations = "conversations";

constexpr std::string_view kNoTools =
    "tool definitions and calls are not rendered; leave them out, or write them as text";

std::string known_role(const std::string& role, const std::string& where) {
  constexpr std::array<std::string_view, 4> kRoles = {"system", "user", "assistant", "tool"};
  if (std::find(kRoles.begin(), kRoles.end(), role) != kRoles.end()) {
    return role;
  }
  const auto near = nearest_name(role, kRoles);
  throw DataError("{} is \"{}\"; wanted system, user, assistant or tool{}", where, role.substr(0, 60),
                  near ? fmt::format("; did you mean {}?", *near) : std::string());
}

std::string sharegpt_role(const std::string& from, const std::string& where) {
  if (from == "human" || from == "user") {
    return "user";
  }
  if (from == "gpt" || from == "assistant" || from == "chatgpt" || from == "bard" || from == "bing" ||
      from == "model") {
    return "assistant";
  }
  if (from == "system" || from == "tool") {
    return from;
  }
  throw DataError("{} is \"{}\"; wanted human, gpt, system or tool", where, from.substr(0, 60));
}

Message read_message(const Json& value, const std::string& where, bool sharegpt, const DatasetOptions& options,
                     std::vector<std::string>& ignored) {
  Fields fields(value, where);
  const std::string_view role_key = sharegpt ? std::string_view("from") : std::string_view(options.field_role);
  const std::string_view content_key = sharegpt ? std::string_view("value") : std::string_view(options.field_content);
  Message message;
  const std::string role = fields.text(role_key);
  message.role = sharegpt ? sharegpt_role(role, fields.name(role_key)) : known_role(role, fields.name(role_key));
  fields.refuse("tool_calls", kNoTools);
  fields.refuse("function_call", kNoTools);
  message.content = fields.text(content_key);
  message.tools = fields.optional_text("tools");
  if (const Json* weight = fields.get(options.message_field_weight)) {
    const double number = weight->is_number() ? weight->get<double>() : -1.0;
    if (!(number >= 0.0) || number > 1e6) {
      throw DataError("{} is {}; wanted a number from 0 to 1e6", fields.name(options.message_field_weight),
                      weight->is_number() ? format_double(number) : std::string(kind_of(*weight)));
    }
    message.weight = static_cast<float>(number);
  }
  if (const Json* train = fields.get(options.message_field_training)) {
    if (!train->is_boolean()) {
      throw DataError("{} is {}; wanted true or false", fields.name(options.message_field_training), kind_of(*train));
    }
    message.trained = train->get<bool>();
    const auto& roles = options.roles_to_train;
    if (message.trained && std::find(roles.begin(), roles.end(), message.role) == roles.end()) {
      ignored.push_back(
          fmt::format("{}: true (role {} is not in roles_to_train)", options.message_field_training, message.role));
    }
  }
  fields.add_unseen("message ", ignored);
  return message;
}

std::vector<Message> read_messages(const Json& list, std::string_view key, bool sharegpt, const DatasetOptions& options,
                                   std::vector<std::string>& ignored) {
  if (list.empty()) {
    throw DataError("\"{}\" is an empty list; wanted at least one message", key);
  }
  std::vector<Message> messages;
  for (const Json& value : list) {
    messages.push_back(read_message(value, fmt::format("{}[{}]", key, messages.size()), sharegpt, options, ignored));
  }
  return messages;
}

void read_alpaca(Fields& fields, Record& record) {
  if (auto system = fields.optional_text("system"); system && !system->empty()) {
    record.messages.push_back({"system", *std::move(system)});
  }
  if (const Json* history = fields.get("history")) {
    const std::string wanted = "wanted a list of [question, answer] pairs";
    if (!history->is_array()) {
      throw DataError("\"history\" is {}; {}", kind_of(*history), wanted);
    }
    for (const Json& pair : *history) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
        throw DataError("\"history\" holds something else than pairs of texts; {}", wanted);
      }
      record.messages.push_back({"user", pair[0].get<std::string>()});
      record.messages.push_back({"assistant", pair[1].get<std::string>()});
    }
  }
  std::string question = fields.text("instruction");
  const std::string input = fields.optional_text("input").value_or("");
  if (!input.empty()) {
    question += question.empty() ? input : "\n" + input;
  }
  record.messages.push_back({"user", std::move(question)});
  record.messages.push_back({"assistant", fields.text("output")});
}

void read_prompt_completion(Fields& fields, const DatasetOptions& options, Record& record) {
  fields.refuse("label", "prompt, completion and label are preference data (KTO), which is not trained yet");
  const Json* prompt = fields.get("prompt");
  const Json* completion = fields.get("completion");
  if (prompt != nullptr && completion != nullptr && prompt->is_array() && completion->is_array()) {
    record.messages = read_messages(*prompt, "prompt", false, options, record.ignored_keys);
    record.prompt_messages = record.messages.size();
    auto answer = read_messages(*completion, "completion", false, options, record.ignored_keys);
    std::move(answer.begin(), answer.end(), std::back_inserter(record.messages));
    for (const Message& message : record.messages) {
      if (message.weight != 1.0F || !message.trained) {
        throw DataError(
            "a message has a weight or is not to be trained; in prompt/completion the completion is trained as a "
            "whole: keep such records as \"messages\"");
      }
    }
    return;
  }
  record.prompt = fields.text("prompt");
  record.completion = fields.text("completion");
}

void hash_text(StreamHash& hash, std::string_view text) {
  const uint64_t size = text.size();
  hash.update({reinterpret_cast<const char*>(&size), sizeof(size)});
  hash.update(text);
}

}  // namespace

Record parse_record(const Json& object, RecordFormat format, const DatasetOptions& options) {
  if (!object.is_object()) {
    throw DataError("a record is {}; wanted an object", kind_of(object));
  }
  Fields fields(object, "the record");
  Record record;
  record.format = format;
  fields.refuse("tools", kNoTools);
  switch (format) {
    case RecordFormat::kMessages:
      record.messages = read_messages(fields.list(options.field_messages), options.field_messages, false, options,
                                      record.ignored_keys);
      break;
    case RecordFormat::kShareGpt:
      if (auto system = fields.optional_text("system"); system && !system->empty()) {
        record.messages.push_back({"system", *std::move(system)});
      }
      for (Message& message :
           read_messages(fields.list(kConversations), kConversations, true, options, record.ignored_keys)) {
        record.messages.push_back(std::move(message));
      }
      break;
    case RecordFormat::kAlpaca:
      read_alpaca(fields, record);
      break;
    case RecordFormat::kPromptCompletion:
      read_prompt_completion(fields, options, record);
      break;
    case RecordFormat::kText:
      record.completion = fields.text("text");
      break;
    case RecordFormat::kAuto:
      throw InternalError("internal error: a record's format is still auto");
  }
  fields.add_unseen("", record.ignored_keys);
  return record;
}

Hash128 content_hash(const Record& record) {
  StreamHash hash;
  if (record.is_chat()) {
    hash.update("chat");
    for (const Message& message : record.messages) {
      hash_text(hash, message.role);
      hash_text(hash, message.content);
      hash_text(hash, message.tools.value_or(""));
    }
  } else {
    hash.update("text");
    hash_text(hash, record.prompt);
    hash_text(hash, record.completion);
  }
  return hash.digest();
}

}  // namespace phi3tune::data
