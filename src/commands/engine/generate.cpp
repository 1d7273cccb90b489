// phi3-tune generate: prompts to answers.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "answer_printer.h"
#include "answer_report.h"
#include "entry.h"
#include "loaded_model.h"
#include "phi3tune/commands/engine_api.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/generate/generator.h"
#include "prompts.h"

namespace phi3tune::commands {
namespace {

int generate_answers(const GenerateRequest& request, const EngineContext& context) {
  if (request.raw && request.system) {
    throw ConfigError("--system and --raw: a system message needs the chat template");
  }
  const auto opened = open_model(request.model, request.raw);
  if (request.system && !opened.chat_template) {
    throw ConfigError("--system and --chat-template none: a system message needs a chat template");
  }
  const auto prompts = read_prompts(request, opened);
  const auto loaded = load_weights(opened, request.model);
  auto options = request.generation;
  options.batch_size = std::min<int64_t>(options.batch_size, static_cast<int64_t>(prompts.size()));
  std::vector<std::vector<int32_t>> tokens;
  for (const auto& prompt : prompts) {
    tokens.push_back(prompt.tokens);
  }
  AnswerPrinter printer(prompts, opened.tokenizer, context.json, options.log_probabilities);
  generate::Generator generator(*loaded.model, options, opened.stop_ids);
  const auto answers = generator.run(
      tokens, [&](size_t prompt, int32_t token) { return printer.add(prompt, token); }, /*first_stream=*/0,
      [&](size_t prompt, const generate::Answer& answer) { printer.end(prompt, answer); });
  if (context.json) {
    fmt::print("{}\n", timing_json(generator.timing()).dump());
  } else {
    const auto cut = std::count_if(answers.begin(), answers.end(), [](const generate::Answer& answer) {
      return answer.finish == generate::Finish::kLength;
    });
    if (cut > 0) {
      log_info("{} of {} answers cut at --max-new-tokens {}, or at the model's last position", cut, answers.size(),
               options.max_new_tokens);
    }
    log_info("{}", timing_text(generator.timing()));
  }
  return static_cast<int>(stop_requested() ? ExitCode::kInterrupted : ExitCode::kDone);
}

}  // namespace
}  // namespace phi3tune::commands

extern "C" int phi3tune_engine_generate(const phi3tune::commands::GenerateRequest& request,
                                        const phi3tune::commands::EngineContext& context) {
  return phi3tune::commands::entered("a smaller --batch-size, fewer --max-new-tokens or --load-in-4bit takes less",
                                     [&] { return phi3tune::commands::generate_answers(request, context); });
}
