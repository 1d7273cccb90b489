// The chat template that a folder brings, as text.
#pragma once

#include <optional>
#include <string>

namespace phi3tune::data {

// chat_template.jinja, else the chat_template of tokenizer_config.json (of several the one named "default"), as
// transformers looks. Nothing where there is neither. Throws ModelError.
std::optional<std::string> read_folder_template(const std::string& folder);

}  // namespace phi3tune::data
