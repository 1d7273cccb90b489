#include "prompts.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/core/text.h"
#include "phi3tune/data/encoding.h"
#include "phi3tune/data/record_reader.h"
#include "phi3tune/data/records.h"

namespace phi3tune::commands {
namespace {

constexpr size_t kMostFaults = 20;  // in one report; the others are counted

class PromptReader {
 public:
  explicit PromptReader(const PromptContext& context) : context_(context) {}

  void add(const std::string& place, const io::Json& record) {
    try {
      Prompt prompt{place, io::Json::object(), {}};
      const bool text = record.is_object() && record.contains("prompt");
      if (!record.is_object() || text == record.contains("messages")) {
        throw DataError("wanted an object with either \"prompt\", a text, or \"messages\", a list");
      }
      const char* key = text ? "prompt" : "messages";
      prompt.asked[key] = record[key];
      for (const auto& [name, value] : record.items()) {
        ignored_[name] += name == key ? 0 : 1;
      }
      prompt.tokens = text ? encode_text(record[key]) : encode_messages(record);
      check_length(prompt.tokens.size());
      prompts_.push_back(std::move(prompt));
    } catch (const DataError& fault) {
      add_fault(place, fault.what());
    }
  }
  void add_fault(const std::string& place, const std::string& what) {
    if (faults_++ < kMostFaults) {
      report_ += fmt::format("{}{}: {}", report_.empty() ? "" : "\n", place, what);
    }
  }

  std::vector<Prompt> take(const std::string& path) {
    if (faults_ > kMostFaults) {
      report_ += fmt::format("\nand {} more faults", faults_ - kMostFaults);
    }
    if (faults_ > 0) {
      throw DataError(report_);
    }
    for (const auto& [name, count] : ignored_) {
      if (count > 0) {
        log_info("key \"{}\" of {} prompts is not used", one_line(name), count);
      }
    }
    if (prompts_.empty()) {
      throw DataError("{}: it holds no prompt", path);
    }
    return std::move(prompts_);
  }

 private:
  std::vector<int32_t> encode_text(const io::Json& value) const {
    if (!value.is_string()) {
      throw DataError("\"prompt\" is {}; wanted a text", value.type_name());
    }
    const auto text = value.get<std::string>();
    if (!context_.chat_template) {
      auto ids = data::encode_text(text, context_.tokenizer);
      if (ids.empty()) {
        throw DataError("the prompt is empty, and without a chat template there is nothing to continue");
      }
      return ids;
    }
    std::vector<data::Message> messages;
    if (context_.system) {
      messages.push_back({"system", *context_.system});
    }
    messages.push_back({"user", text});
    return encode_conversation(context_.tokenizer, *context_.chat_template, messages);
  }

  std::vector<int32_t> encode_messages(const io::Json& record) const {
    if (!context_.chat_template) {
      throw DataError("\"messages\" want a chat template, and none is used");
    }
    auto messages = data::parse_record(record, config::RecordFormat::kMessages, {}).messages;
    if (messages.empty() || messages.back().role == "assistant") {
      throw DataError("the last message is {}; a prompt ends with the user's",
                      messages.empty() ? "missing" : "from \"assistant\"");
    }
    const bool has_own = messages.front().role == "system";
    if (context_.system && has_own && !context_.system_is_default) {
      throw DataError("the record has a system message of its own, and --system gives another");
    }
    if (context_.system && !has_own) {
      messages.insert(messages.begin(), {"system", *context_.system});
    }
    return encode_conversation(context_.tokenizer, *context_.chat_template, messages);
  }

  void check_length(size_t tokens) const {
    const int64_t positions = context_.positions;
    if (positions > 0 && static_cast<int64_t>(tokens) >= positions) {
      throw DataError(
          "a prompt of {} tokens, and the model knows {} positions (max_position_embeddings), for prompt "
          "and answer together; shorten it",
          tokens, positions);
    }
  }

  const PromptContext& context_;
  std::vector<Prompt> prompts_;
  std::map<std::string, int64_t> ignored_;
  std::string report_;
  size_t faults_ = 0;
};

std::string read_standard_input() {
  std::string text;
  std::array<char, 65536> bytes{};
  for (ssize_t count = 1; count != 0;) {
    pollfd entry{STDIN_FILENO, POLLIN, 0};
    constexpr int kLook = 100;  // ms between looks at the stop flag
    const int ready = poll(&entry, 1, kLook);
    if (stop_requested()) {
      throw Interrupted("stopped while the prompt was read: nothing was answered");
    }
    if (ready <= 0) {
      continue;
    }
    count = read(STDIN_FILENO, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) {
      throw DataError("standard input: it cannot be read: {}", std::strerror(errno));
    }
    text.append(bytes.data(), count > 0 ? static_cast<size_t>(count) : 0);
  }
  if (text.ends_with('\n')) {  // what `echo` adds
    text.pop_back();
  }
  if (text.empty()) {
    throw DataError("standard input: it holds no prompt");
  }
  return text;
}

void read_file(const std::string& path, PromptReader& reader) {
  data::RecordReader records(path);
  data::RawRecord record;
  while (records.next(record)) {
    if (record.fault.empty()) {
      reader.add(fmt::format("{}:{}", path, record.line), record.value);
    } else {
      reader.add_fault(fmt::format("{}:{}:{}", path, record.fault_line, record.fault_column), record.fault);
    }
  }
}

}  // namespace

std::vector<int32_t> encode_conversation(const data::Tokenizer& tokenizer, const data::ChatTemplate& chat_template,
                                         const std::vector<data::Message>& messages) {
  const bool has_system =
      std::any_of(messages.begin(), messages.end(), [](const auto& message) { return message.role == "system"; });
  if (has_system && !chat_template.holds_system_messages()) {
    throw DataError("the chat template {} leaves system messages out; put the text into the user's message",
                    chat_template.name());
  }
  return tokenizer.encode(chat_template.render(messages, /*add_generation_prompt=*/true).text);
}

std::vector<int32_t> encode_conversation(const OpenedModel& opened, const std::vector<data::Message>& messages) {
  return encode_conversation(opened.tokenizer, opened.chat_template.value(), messages);
}

std::vector<Prompt> read_prompt_file(const std::string& path, const PromptContext& context) {
  PromptReader reader(context);
  read_file(path, reader);
  return reader.take(path);
}

std::vector<Prompt> read_prompts(const GenerateRequest& request, const OpenedModel& opened) {
  const PromptContext context{opened.tokenizer, opened.chat_template ? &*opened.chat_template : nullptr,
                              opened.folder.config().max_position_embeddings, request.system};
  if (!request.prompts_path.empty()) {
    return read_prompt_file(request.prompts_path, context);
  }
  PromptReader reader(context);
  const bool piped = request.prompt == "-";
  const auto text = piped ? read_standard_input() : request.prompt;
  const std::string place = piped ? "standard input" : "PROMPT";
  const size_t bad = find_invalid_utf8(text);
  if (bad != std::string_view::npos) {
    throw DataError("{}: byte {} is not UTF-8", place, bad + 1);
  }
  reader.add(place, {{"prompt", text}});
  return reader.take(place);
}

}  // namespace phi3tune::commands
