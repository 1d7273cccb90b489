#include "answer_report.h"

#include <fmt/format.h>

namespace phi3tune::commands {

const char* finish_name(generate::Finish finish) noexcept {
  switch (finish) {
    case generate::Finish::kStop:
      return "stop";
    case generate::Finish::kLength:
      return "length";
    case generate::Finish::kInterrupted:
      break;
  }
  return "interrupted";
}

io::Json timing_json(const generate::Timing& timing) {
  return {{"event", "result"},
          {"prompt_tokens", timing.prompt_tokens},
          {"new_tokens", timing.new_tokens},
          {"prompt_seconds", timing.prompt_seconds},
          {"new_seconds", timing.new_seconds},
          {"prompt_tokens_per_second", timing.prompt_tokens_per_second()},
          {"new_tokens_per_second", timing.new_tokens_per_second()}};
}

std::string timing_text(const generate::Timing& timing) {
  return fmt::format("{} prompt tokens, {:.1f} a second; {} new tokens, {:.1f} a second", timing.prompt_tokens,
                     timing.prompt_tokens_per_second(), timing.new_tokens, timing.new_tokens_per_second());
}

}  // namespace phi3tune::commands
