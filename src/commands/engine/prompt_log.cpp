#include "prompt_log.h"

#include <fmt/format.h>

#include <fstream>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/generate/generator.h"

namespace phi3tune::commands {
namespace {

// What is to be answered, on one line.
std::string last_text(const io::Json& asked) {
  const auto& last = asked.contains("prompt") ? asked["prompt"] : asked["messages"].back()["content"];
  return last.is_string() ? last.get<std::string>() : last.dump();
}

const std::string& cut_after(const std::string& path, int64_t step) {
  (void)io::cut_file(path, bytes_until_step(path, step));
  return path;
}

}  // namespace

std::vector<Prompt> read_logged_prompts(const config::RunOptions& run, const Inputs& inputs) {
  if (run.eval.prompts_path.empty()) {
    return {};
  }
  const bool chat = inputs.chat_template.kind() != data::TemplateKind::kNone;
  return read_prompt_file(run.eval.prompts_path,
                          {inputs.tokenizer, chat ? &inputs.chat_template : nullptr,
                           inputs.folder.config().max_position_embeddings, run.data.default_system_message, true});
}

void require_answers_on(const Compute& compute, const std::vector<Prompt>& prompts) {
  if (!prompts.empty() && compute.backend->extended) {
    throw ConfigError("eval_prompts: answers are made on the CPU alone, and this run computes on {}; leave it out",
                      compute.device);
  }
}

std::unique_ptr<PromptLog> make_prompt_log(const config::RunOptions& run, const Inputs& inputs,
                                           std::vector<Prompt> prompts, const std::string& path, int64_t evaluated_at,
                                           model::Phi3Model& model, bool plain) {
  if (prompts.empty()) {
    return nullptr;
  }
  const auto show = [plain](const std::string& line) {
    if (plain) {
      log_info("{}", one_line(line));
    }
  };
  PromptLog::Options options{std::move(prompts), stop_ids_of(inputs.folder, inputs.tokenizer, &inputs.chat_template),
                             run.eval.max_new_tokens};
  return std::make_unique<PromptLog>(path, evaluated_at, std::move(options), model, inputs.tokenizer, show);
}

uint64_t bytes_until_step(const std::string& path, int64_t step) {
  std::ifstream file(path, std::ios::binary);
  uint64_t bytes = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {  // the last line ends, or was cut short
    io::Json json;
    io::JsonFault fault;
    if (!io::parse_json(line, json, fault) || !json.is_object() || !json.contains("step") ||
        !json["step"].is_number_integer() || json["step"].get<int64_t>() > step) {
      break;
    }
    bytes += line.size() + 1;
  }
  return bytes;
}

PromptLog::PromptLog(const std::string& path, int64_t evaluated_at, Options options, model::Phi3Model& model,
                     const data::Tokenizer& tokenizer, Show show)
    : options_(std::move(options)),
      model_(model),
      tokenizer_(tokenizer),
      show_(std::move(show)),
      file_(cut_after(path, evaluated_at)) {}

bool PromptLog::on_evaluated(int64_t step) {
  config::GenerationOptions generation;
  generation.max_new_tokens = options_.max_new_tokens;
  generate::Generator generator(model_, generation, options_.stop_ids);
  std::vector<std::vector<int32_t>> prompts;
  for (const auto& prompt : options_.prompts) {
    prompts.push_back(prompt.tokens);
  }
  const auto answers = generator.run(prompts);
  for (const auto& answer : answers) {
    if (answer.finish == generate::Finish::kInterrupted) {
      return false;
    }
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    const auto& asked = options_.prompts[i].asked;
    const auto text = tokenizer_.decode(answers[i].tokens, true);
    io::Json line{{"step", step}};
    line.update(asked);
    line["answer"] = text;
    write(line.dump(-1, ' ', false, io::Json::error_handler_t::replace));
    show_(fmt::format("step {}  {} -> {}", step, last_text(asked), text));
  }
  return true;
}

// A full disk ends no run for these.
void PromptLog::write(const std::string& line) {
  try {
    file_.write_line(line);
  } catch (const ResourceError& fault) {
    log_warning("{}; an answer to eval_prompts is not kept", fault.what());
  }
}

}  // namespace phi3tune::commands
