#include "phi3tune/data/questions.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/data/encoding.h"
#include "phi3tune/data/record_reader.h"

namespace phi3tune::data {
namespace {

std::string text_of(std::span<const Message> messages) {
  if (messages.size() == 1 && messages.front().role == "user") {
    return messages.front().content;
  }
  std::string text;
  for (const auto& message : messages) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : "\n\n", message.role, message.content);
  }
  return text;
}

// Up to where the answer begins, as in training.
std::vector<int32_t> encode_prompt(std::vector<Message> messages, const Tokenizer& tokenizer,
                                   const ChatTemplate& chat_template,
                                   const std::optional<std::string>& default_system_message) {
  if (default_system_message && (messages.empty() || messages.front().role != "system")) {
    messages.insert(messages.begin(), {"system", *default_system_message});
  }
  return tokenizer.encode(chat_template.render(messages, true).text);
}

std::optional<Question> question_of_text(const Record& record, const Tokenizer& tokenizer) {
  if (record.format != config::RecordFormat::kPromptCompletion || record.prompt.empty()) {
    return std::nullopt;
  }
  Question question;
  question.prompt = encode_text(record.prompt, tokenizer);
  question.text = record.prompt;
  question.reference = record.completion;
  return question;
}

// The examples that stand at a line, by their indices: further pieces of a record are not the first of it.
using Places = std::map<std::pair<uint32_t, uint64_t>, size_t>;

class QuestionReader {
 public:
  QuestionReader(const config::DataOptions& options, const Dataset& dataset, const Places& wanted,
                 const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                 std::vector<std::optional<Question>>& questions)
      : options_(options),
        dataset_(dataset),
        wanted_(wanted),
        tokenizer_(tokenizer),
        chat_template_(chat_template),
        questions_(questions) {}

  void read(const std::vector<config::DatasetOptions>& datasets) {
    for (const auto& dataset : datasets) {
      auto format = dataset.format;
      for (const auto& path : expand_data_path(dataset.path)) {
        if (file_ >= dataset_.files.size() || dataset_.files[file_] != path) {
          throw DataError("{}: it was not there when the data were read first; leave the data as they are meanwhile",
                          path);
        }
        read_file(path, dataset, format);
        ++file_;
      }
    }
  }

 private:
  void read_file(const std::string& path, const config::DatasetOptions& dataset, config::RecordFormat& format) {
    const auto begin = wanted_.lower_bound({file_, 0});
    const auto end = wanted_.lower_bound({file_ + 1, 0});
    // A file before it may be what a format is detected by.
    if (begin == end && format != config::RecordFormat::kAuto) {
      return;
    }
    RecordReader reader(path);
    RawRecord raw;
    for (auto next = begin; (next != end || format == config::RecordFormat::kAuto) && reader.next(raw);) {
      if (stop_requested()) {
        throw Interrupted("stopped while reading data; nothing was written: run the same command again");
      }
      if (!raw.fault.empty()) {
        continue;
      }
      if (format == config::RecordFormat::kAuto) {
        if (const auto matching = matching_formats(raw.value, dataset); matching.size() == 1) {
          format = matching.front();
        }
      }
      if (next != end && raw.line == next->first.second) {
        take(raw, dataset, format, path, next->second);
        ++next;
      }
    }
  }

  void take(const RawRecord& raw, const config::DatasetOptions& dataset, config::RecordFormat format,
            const std::string& path, size_t example) {
    try {
      const auto record = parse_record(raw.value, format, dataset);
      questions_[example] = question_of(record, tokenizer_, chat_template_, options_.default_system_message);
    } catch (const DataError& fault) {
      throw DataError("{}:{}: {}", path, raw.line, fault.what());
    }
  }

  const config::DataOptions& options_;
  const Dataset& dataset_;
  const Places& wanted_;
  const Tokenizer& tokenizer_;
  const ChatTemplate& chat_template_;
  std::vector<std::optional<Question>>& questions_;
  uint32_t file_ = 0;
};

}  // namespace

std::optional<Question> question_of(const Record& record, const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                    const std::optional<std::string>& default_system_message) {
  if (!record.is_chat()) {
    return question_of_text(record, tokenizer);
  }
  const auto& messages = record.messages;
  const auto last = std::find_if(messages.rbegin(), messages.rend(),
                                 [](const Message& message) { return message.role == "assistant"; });
  const auto before = static_cast<size_t>(std::distance(last, messages.rend()));  // with it
  if (before < 2) {
    return std::nullopt;
  }
  const std::vector<Message> prompt(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(before - 1));
  Question question;
  question.text = text_of(prompt);
  question.prompt = encode_prompt(prompt, tokenizer, chat_template, default_system_message);
  question.reference = last->content;
  return question;
}

std::vector<std::optional<Question>> read_questions(const config::DataOptions& options, const Dataset& dataset,
                                                    std::span<const Example> examples, const Tokenizer& tokenizer,
                                                    const ChatTemplate& chat_template) {
  Places wanted;
  for (size_t i = 0; i < examples.size(); ++i) {
    wanted.try_emplace({examples[i].source.file, examples[i].source.line}, i);
  }
  std::vector<std::optional<Question>> questions(examples.size());
  QuestionReader reader(options, dataset, wanted, tokenizer, chat_template, questions);
  reader.read(options.datasets);
  reader.read(options.test_datasets);
  return questions;
}

}  // namespace phi3tune::data
