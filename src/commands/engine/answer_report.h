// How answers and their timing are said, in text and in --json.
#pragma once

#include <string>

#include "phi3tune/generate/generator.h"
#include "phi3tune/io/json.h"

namespace phi3tune::commands {

const char* finish_name(generate::Finish finish) noexcept;  // "stop", "length", "interrupted"

// {"event": "result", "prompt_tokens", "new_tokens", "prompt_seconds", "new_seconds", "prompt_tokens_per_second",
//  "new_tokens_per_second"}
io::Json timing_json(const generate::Timing& timing);
std::string timing_text(const generate::Timing& timing);

}  // namespace phi3tune::commands
