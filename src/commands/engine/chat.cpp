// phi3-tune chat: a conversation in the terminal, or line by line through a pipe.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "answer_report.h"
#include "conversation.h"
#include "entry.h"
#include "line_reader.h"
#include "loaded_model.h"
#include "phi3tune/commands/engine_api.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/core/text.h"

namespace phi3tune::commands {
namespace {

using Got = LineReader::Got;

constexpr std::string_view kHelp =
    "/reset         forget what was said\n"
    "/system TEXT   begin again with this system message; alone: show it\n"
    "/save FILE     add the conversation to a JSONL file, as training reads it\n"
    "/help          this list\n"
    "/quit          end; so does Ctrl-D\n"
    "A line that ends with \\ goes on in the next; \"\"\" begins and ends a message of\n"
    "several lines. Ctrl-C stops an answer. A message that begins with / has a\n"
    "blank before it.\n";

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  return begin == std::string_view::npos ? std::string_view()
                                         : text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// A message: a line, lines that end with a backslash and the one behind them, a """block""", or what was pasted.
Got read_message(LineReader& lines, std::string& message) {
  constexpr std::string_view kQuotes = "\"\"\"";
  constexpr const char* kMore = ". ";
  auto got = lines.next("> ", message);
  if (got != Got::kLine) {
    return got;
  }
  std::string line;
  if (message.starts_with(kQuotes)) {
    message.erase(0, kQuotes.size());
    while (!message.ends_with(kQuotes)) {
      got = lines.next(kMore, line);
      if (got == Got::kEnd && !lines.interactive()) {
        throw DataError("a message that \"\"\" began does not end: it was not said");
      }
      if (got != Got::kLine) {
        return got;
      }
      message += (message.empty() ? "" : "\n") + line;
    }
    message.resize(message.size() - kQuotes.size());
    return Got::kLine;
  }
  for (bool continues = message.ends_with('\\'); continues || lines.more_waits();) {
    if (continues) {
      message.pop_back();
    }
    got = lines.next(kMore, line);
    if (got == Got::kEnd) {
      break;  // what came is a message; the end is read again
    }
    if (got != Got::kLine) {
      return got;
    }
    message += "\n" + line;
    continues = line.ends_with('\\');
  }
  return Got::kLine;
}

class Chat {
 public:
  Chat(Conversation& conversation, LineReader& lines, bool json)
      : conversation_(conversation), lines_(lines), json_(json) {}

  ExitCode run() {
    note("a conversation; /help lists what else can be typed, Ctrl-D ends it");
    std::string message;
    while (!over_) {
      switch (read_message(lines_, message)) {
        case Got::kLine:
          take(message);
          break;
        case Got::kInterrupted:
          note("(Ctrl-D or /quit ends the conversation)");
          break;
        case Got::kEnd:
          over_ = true;
          if (lines_.interactive()) {
            std::fputc('\n', stderr);
          }
          break;
        case Got::kStopped:
          return ExitCode::kInterrupted;
      }
      (void)take_interrupt();  // one that came beside an answer ends nothing
      if (stop_requested()) {
        return ExitCode::kInterrupted;
      }
    }
    return ExitCode::kDone;
  }

 private:
  // For a person alone.
  void note(std::string_view text) const {
    if (lines_.interactive()) {
      fmt::print(stderr, "{}\n", text);
    }
  }

  void take(const std::string& message) {
    if (trimmed(message).empty()) {
      return;
    }
    const size_t bad = find_invalid_utf8(message);
    if (bad != std::string_view::npos) {
      fmt::print(stderr, "byte {} of the message is not UTF-8: it was not said\n", bad + 1);
      return;
    }
    try {
      message.front() == '/' ? command(message) : answer(message.front() == ' ' ? message.substr(1) : message);
    } catch (const DataError& fault) {
      refuse(fault);
    } catch (const ConfigError& fault) {
      refuse(fault);
    } catch (const ResourceError& fault) {
      refuse(fault);
    }
  }
  // A person can go on; a script is told by the exit code.
  void refuse(const Error& fault) const {
    if (!lines_.interactive()) {
      throw;
    }
    fmt::print(stderr, "{}\n", fault.what());
  }

  void command(const std::string& line) {
    const size_t blank = line.find_first_of(" \t\n");
    const auto name = std::string_view(line).substr(0, blank);
    const auto rest = trimmed(std::string_view(line).substr(std::min(blank, line.size())));
    if (name == "/quit" || name == "/exit") {
      over_ = true;
    } else if (name == "/help") {
      fmt::print(stderr, "{}", kHelp);
    } else if (name == "/reset") {
      conversation_.reset(conversation_.system());
      note("the conversation begins again");
    } else if (name == "/system" && rest.empty()) {
      const auto& system = conversation_.system();
      fmt::print(stderr, "{}\n", system ? plain_lines(*system) : "there is no system message");
    } else if (name == "/system") {
      conversation_.reset(std::string(rest));
      note("the conversation begins again, with this system message");
    } else if (name == "/save") {
      save(std::string(rest));
    } else {
      throw ConfigError(
          "{}: there is no such command; /help lists them, and a message that begins with / has a blank "
          "before it",
          std::string(name));
    }
  }

  void save(const std::string& path) const {
    if (path.empty()) {
      throw ConfigError("/save: name a file, as /save conversations.jsonl");
    }
    if (conversation_.turns() == 0) {
      throw ConfigError("/save: nothing was said yet");
    }
    conversation_.save(path);
    note(fmt::format("added to {}", path));
  }

  void answer(const std::string& message) {
    const auto reply = conversation_.say(message, [&](std::string_view piece) {
      if (!json_) {
        std::fwrite(piece.data(), 1, piece.size(), stdout);
        std::fflush(stdout);
      }
      return std::ferror(stdout) == 0;
    });
    if (json_) {
      const io::Json event{{"event", "answer"},
                           {"prompt", message},
                           {"answer", reply.text},
                           {"tokens", reply.answer.tokens},
                           {"finish", finish_name(reply.answer.finish)},
                           {"prompt_tokens", reply.prompt_tokens},
                           {"new_tokens", reply.answer.tokens.size() + (reply.answer.stop_id ? 1 : 0)}};
      fmt::print("{}\n", event.dump());
    } else {
      fmt::print("\n");
    }
    std::fflush(stdout);
    if (std::ferror(stdout) != 0) {
      over_ = true;  // main says so
    }
    if (take_interrupt()) {
      note("(stopped; it is kept as far as it came)");
    } else if (reply.no_position_left) {
      fmt::print(stderr, "(the model has no position left: /reset begins again)\n");
    } else if (reply.answer.finish == generate::Finish::kLength) {
      note("(cut at --max-new-tokens)");
    }
  }

  Conversation& conversation_;
  LineReader& lines_;
  bool json_;
  bool over_ = false;
};

int chat(const ChatRequest& request, const EngineContext& context) {
  const auto opened = open_model(request.model, /*raw=*/false);
  if (!opened.chat_template) {
    throw ConfigError("--chat-template none: a conversation needs a chat template; generate --raw continues text");
  }
  const auto loaded = load_weights(opened, request.model);
  Conversation conversation(opened, loaded, request.generation, request.system);
  const auto lines = LineReader::of_process();
  if (lines->interactive()) {
    soften_interrupts();
  }
  const auto code = Chat(conversation, *lines, context.json).run();
  const auto& timing = conversation.timing();
  if (context.json) {
    fmt::print("{}\n", timing_json(timing).dump());
  } else if (timing.new_tokens > 0) {
    log_info("{}", timing_text(timing));
  }
  return static_cast<int>(code);
}

}  // namespace
}  // namespace phi3tune::commands

extern "C" int phi3tune_engine_chat(const phi3tune::commands::ChatRequest& request,
                                    const phi3tune::commands::EngineContext& context) {
  return phi3tune::commands::entered("--load-in-4bit or a shorter conversation takes less",
                                     [&] { return phi3tune::commands::chat(request, context); });
}
