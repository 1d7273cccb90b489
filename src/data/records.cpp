#include "phi3tune/data/records.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

using config::DatasetOptions;
using config::RecordFormat;
using io::Json;

constexpr std::string_view kConversations = "conversations";

std::string_view kind_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::string:
      return "text";
    case Json::value_t::boolean:
      return "true or false";
    default:
      return "a number";
  }
}

std::string keys_of(const Json& object) {
  constexpr size_t kShown = 12;
  std::string keys;
  size_t count = 0;
  for (const auto& item : object.items()) {
    if (++count <= kShown) {
      keys += fmt::format("{}\"{}\"", keys.empty() ? "" : ", ", item.key().substr(0, 60));
    }
  }
  if (count > kShown) {
    keys += fmt::format(" and {} more", count - kShown);
  }
  return keys.empty() ? "none" : keys;
}

// The value of a key, null like absent.
const Json* find(const Json& object, std::string_view key) {
  const auto at = object.find(std::string(key));
  return at == object.end() || at->is_null() ? nullptr : &*at;
}

bool has(const Json& object, std::string_view key) { return object.contains(std::string(key)); }

bool first_element_has(const Json& object, std::string_view list, std::string_view key) {
  const Json* value = find(object, list);
  return value != nullptr && value->is_array() && !value->empty() && value->front().is_object() &&
         has(value->front(), key);
}

// An object being read: remembers which keys were looked at.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) {
      throw DataError("{} is {}; wanted an object", where_, kind_of(object));
    }
  }

  const Json* get(std::string_view key) {
    seen_.insert(std::string(key));
    return find(object_, key);
  }
  std::string text(std::string_view key) {
    auto value = optional_text(key);
    if (!value) {
      if (has(object_, key)) {
        throw DataError("{} is null; wanted text", name(key));
      }
      throw DataError("{} is missing; found the keys {}", name(key), keys_of(object_));
    }
    return *std::move(value);
  }
  std::optional<std::string> optional_text(std::string_view key) {
    const Json* value = get(key);
    if (value == nullptr) {
      return std::nullopt;
    }
    if (!value->is_string()) {
      throw DataError("{} is {}; wanted text", name(key), kind_of(*value));
    }
    return value->get<std::string>();
  }
  const Json& list(std::string_view key) {
    const Json* value = get(key);
    if (value == nullptr) {
      throw DataError("{} is {}; found the keys {}", name(key), has(object_, key) ? "null" : "missing",
                      keys_of(object_));
    }
    if (!value->is_array()) {
      throw DataError("{} is {}; wanted a list", name(key), kind_of(*value));
    }
    return *value;
  }
  // What would change the text or the loss and is not supported: refused rather than left out.
  void refuse(std::string_view key, std::string_view why) {
    const Json* value = get(key);
    if (value != nullptr && !(value->is_array() && value->empty()) && !(value->is_string() && *value == "")) {
      throw DataError("{} is there: {}", name(key), why);
    }
  }
  void add_unseen(std::string_view prefix, std::vector<std::string>& keys) const {
    for (const auto& item : object_.items()) {
      const std::string key = std::string(prefix) + item.key();
      if (!item.value().is_null() && !seen_.contains(item.key()) &&
          std::find(keys.begin(), keys.end(), key) == keys.end()) {
        keys.push_back(key);
      }
    }
  }
  std::string name(std::string_view key) const {
    return where_ == "the record" ? fmt::format("\"{}\"", key) : fmt::format("{}.{}", where_, key);
  }

 private:
  const Json& object_;
  std::string where_;
  std::set<std::string, std::less<>> seen_;
};

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
