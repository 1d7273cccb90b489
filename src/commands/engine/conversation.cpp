#include "conversation.h"

#include <filesystem>
#include <span>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/generate/text_stream.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/json.h"
#include "prompts.h"

namespace phi3tune::commands {
namespace {

config::GenerationOptions one_at_a_time(config::GenerationOptions options) {
  options.batch_size = 1;
  return options;
}

}  // namespace

Conversation::Conversation(const OpenedModel& opened, const LoadedModel& loaded,
                           const config::GenerationOptions& options, std::optional<std::string> system)
    : opened_(opened), generator_(*loaded.model, one_at_a_time(options), opened.stop_ids) {
  reset(std::move(system));
}

void Conversation::reset(std::optional<std::string> system) {
  if (system && !opened_.chat_template.value().holds_system_messages()) {
    throw ConfigError("a system message: the chat template {} leaves it out; say it in the first message instead",
                      opened_.chat_template->name());
  }
  system_ = std::move(system);
  messages_.clear();
  turns_ = 0;
  if (system_) {
    messages_.push_back({"system", *system_});
  }
}

Reply Conversation::say(const std::string& message, const std::function<bool(std::string_view)>& show) {
  auto messages = messages_;
  messages.push_back({"user", message});
  const auto tokens = encode_conversation(opened_, messages);
  const int64_t positions = opened_.folder.config().max_position_embeddings;
  if (positions > 0 && static_cast<int64_t>(tokens.size()) >= positions) {
    throw DataError(
        "the conversation with this message has {} tokens, and the model knows {} positions (max_position_embeddings): "
        "/reset begins again, a shorter message may still fit",
        tokens.size(), positions);
  }
  Reply reply;
  reply.prompt_tokens = tokens.size();
  generate::TextStream stream(opened_.tokenizer);
  const auto add = [&](const std::string& piece) {
    reply.text += piece;
    return piece.empty() || show(piece);
  };
  reply.answer =
      generator_
          .run(
              std::span(&tokens, 1), [&](size_t, int32_t token) { return add(stream.add(token)); }, stream_++)
          .front();
  (void)add(stream.finish());
  reply.no_position_left = reply.answer.finish == generate::Finish::kLength && positions > 0 &&
                           static_cast<int64_t>(tokens.size() + reply.answer.tokens.size()) >= positions;
  messages.push_back({"assistant", reply.text});
  messages_ = std::move(messages);
  ++turns_;
  return reply;
}

void Conversation::save(const std::string& path) const {
  io::Json record{{"messages", io::Json::array()}};
  for (const auto& message : messages_) {
    record["messages"].push_back({{"role", message.role}, {"content", message.content}});
  }
  std::string text;
  std::error_code code;
  if (std::filesystem::exists(path, code)) {
    if (!std::filesystem::is_regular_file(path, code)) {
      throw DataError("{}: it is no file", path);
    }
    text = io::read_text_file<DataError>(path);
    if (!text.empty() && !text.ends_with('\n')) {
      text += '\n';
    }
    if (!text.empty() && text.front() != '{') {
      throw DataError("{}: it holds no lines of JSON objects, and is left as it is; name another file", path);
    }
  }
  io::write_file_atomically(path, text + record.dump() + "\n");
}

}  // namespace phi3tune::commands
